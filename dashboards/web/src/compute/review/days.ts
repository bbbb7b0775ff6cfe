/** Periods that use is looked at over. Pure. */
export const DAYS = [1, 7, 30] as const;
/** As idle machines are told by. */
const USUAL = 30;

export function daysOf(query: Readonly<Record<string, unknown>>): number {
  return DAYS.find((days) => String(days) === query.days) ?? USUAL;
}
