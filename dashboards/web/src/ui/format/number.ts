/** Numbers with units, as the screen shows them. The only place that rounds. */

/** A number apart from its unit, so that the unit can be set smaller. */
export interface Quantity {
  readonly number: string;
  readonly unit: string;
}

export const NONE = "–";

/** Three significant digits, but never fewer than the whole part has. */
function significant(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.01) return value.toFixed(2);
  return value.toPrecision(2);
}

function scaled(value: number, base: number, units: readonly string[]): Quantity {
  let step = 0;
  let size = value;
  while (Math.abs(size) >= base * 0.9995 && step < units.length - 1) {
    size /= base;
    step += 1;
  }
  const whole = step === 0 && Number.isInteger(size);
  return { number: whole ? size.toFixed(0) : significant(size), unit: units[step] ?? "" };
}

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const BITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"] as const;
const COUNTS = ["", "k", "M", "G", "T"] as const;

/** Memory and storage: powers of 1024. */
export function bytes(value: number): Quantity {
  return scaled(value, 1024, BYTES);
}

/** Network rates: bits, powers of 1000, as links are sold. */
export function bitRate(bytesPerSecond: number): Quantity {
  return scaled(bytesPerSecond * 8, 1000, BITS);
}

/** Storage rates. */
export function byteRate(bytesPerSecond: number): Quantity {
  const { number, unit } = bytes(bytesPerSecond);
  return { number, unit: `${unit}/s` };
}

/** A share that is given in percent. */
export function percent(value: number): Quantity {
  const shown = value > 0 && value < 0.1 ? "<0.1" : value < 100 && value > 99.9 ? ">99.9" : value.toFixed(value >= 100 ? 0 : 1);
  return { number: shown, unit: "%" };
}

/** A share that is given as a part of 1, to the second digit, never rounded up to whole. */
export function share(value: number): Quantity {
  const hundred = value * 100;
  if (hundred >= 100) return { number: "100", unit: "%" };
  return { number: (Math.floor(hundred * 100) / 100).toFixed(2), unit: "%" };
}

/** A count, whole and grouped. */
export function count(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A count where room is short. */
export function shortCount(value: number): Quantity {
  return scaled(value, 1000, COUNTS);
}

/** Processors: whole ones are counted, parts of them measured. */
export function processors(value: number): Quantity {
  return { number: Number.isInteger(value) ? count(value) : significant(value), unit: "" };
}

/** How many times over something is given. */
export function ratio(value: number): Quantity {
  return { number: value.toFixed(2), unit: ": 1" };
}

/** Seconds of a measurement: nano- to whole seconds. */
export function seconds(value: number): Quantity {
  const size = Math.abs(value);
  if (size === 0 || size >= 1) return { number: significant(value), unit: "s" };
  if (size >= 1e-3) return { number: significant(value * 1e3), unit: "ms" };
  if (size >= 1e-6) return { number: significant(value * 1e6), unit: "µs" };
  return { number: significant(value * 1e9), unit: "ns" };
}

/** A value in a unit of the API: `By`, `By/s`, `s`, `1`, `1/s`, `Hz`, `%`, … */
export function measured(value: number, unit: string): Quantity {
  switch (unit) {
    case "By":
      return bytes(value);
    case "By/s":
      return byteRate(value);
    case "bit/s":
      return bitRate(value / 8);
    case "s":
      return seconds(value);
    case "%":
      return percent(value);
    case "Hz":
      return scaled(value, 1000, ["Hz", "kHz", "MHz", "GHz"]);
    case "Cel":
      return { number: value.toFixed(1), unit: "°C" };
    case "1":
      return shortCount(value);
    case "1/s": {
      const { number, unit: scale } = shortCount(value);
      return { number, unit: `${scale}/s` };
    }
    default:
      return { number: significant(value), unit };
  }
}

/** As one text. */
export function text(quantity: Quantity): string {
  return quantity.unit ? `${quantity.number} ${quantity.unit}` : quantity.number;
}
