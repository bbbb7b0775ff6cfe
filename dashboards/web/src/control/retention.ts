/** What a change of the retention means: the form's days, and what goes away by it. */
import { type Kept, type Retention, KEPT } from "./queries";

export const DAY_MS = 86_400_000;
type Key = (typeof KEPT)[number];

/** Days in the form; empty: as configured. */
export type Days = Record<Key, number | "">;

/** What is set now. */
export function daysOf(retention: Retention): Days {
  const days = ({ source, ms }: Kept) => (source === "set" ? Math.round((ms / DAY_MS) * 100) / 100 : "");
  return { raw: days(retention.raw), slot: days(retention.slot), hour: days(retention.hour), audit: days(retention.audit) };
}

const wanted = (days: number | "") => (days === "" ? null : Math.round(days * DAY_MS));

/** As the service takes it. */
export function requestOf(days: Days, version: number) {
  return { version, raw_ms: wanted(days.raw), slot_ms: wanted(days.slot), hour_ms: wanted(days.hour), audit_ms: wanted(days.audit) };
}

/** What is kept shorter than before: since when nothing would be left, and how many days of what there is would go. */
export function shortened(retention: Retention, days: Days, now: number): { key: Key; beforeMs: number; oldestMs: number | null; days: number }[] {
  return KEPT.flatMap((key) => {
    const kept = retention[key];
    const ms = wanted(days[key]) ?? kept.configured_ms;
    if (ms >= kept.ms) return [];
    const beforeMs = now - ms;
    const oldestMs = kept.oldest_ms != null && kept.oldest_ms < beforeMs ? kept.oldest_ms : null;
    return [{ key, beforeMs, oldestMs, days: oldestMs === null ? 0 : Math.ceil((beforeMs - oldestMs) / DAY_MS) }];
  });
}
