/** The labels of a chart's axes. */
import { measured, text } from "../format/number";
import { instant } from "../format/time";

const DAY = 86_400;

/** Labels of instants in seconds: the time, with the day below where it changes. */
export function timeLabels(splits: readonly number[], increment: number): string[] {
  let day = "";
  return splits.map((split) => {
    const whole = instant(split * 1000);
    const date = whole.slice(5, 10);
    if (increment >= DAY) return date;
    const time = whole.slice(11, increment < 60 ? 19 : 16);
    const changed = date !== day;
    day = date;
    return changed ? `${time}\n${date}` : time;
  });
}

/** Labels of values in a unit. */
export function valueLabels(splits: readonly number[], unit: string): string[] {
  return splits.map((split) => {
    if (split === 0) return "0";
    // A figure may say that it is less than can be told; two marks of an axis may not say the same.
    const { number, unit: shown } = unit === "%" ? { number: String(Number(split.toPrecision(3))), unit } : measured(split, unit);
    return text({ number: number.replace(/\.0+$/, ""), unit: shown });
  });
}
