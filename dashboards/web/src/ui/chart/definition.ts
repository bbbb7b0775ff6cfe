/** How the service defines the values of a series, as keys of words. Pure. */

/** A test holds them against the service's code. */
const DEFINITIONS = {
  "counter delta ÷ seconds between two frames": "ui.chart_definition_of.frame_rate",
  "counter delta ÷ covered seconds": "ui.chart_definition_of.rate",
  "the value as sampled": "ui.chart_definition_of.sample",
  "mean of the samples": "ui.chart_definition_of.mean",
} as const;

/** A line's definition, in which the service's stands within what is reckoned from it; another one stays as it is. */
export function definitionText(definition: string, t: (key: string) => string): string {
  return Object.entries(DEFINITIONS).reduce((text, [said, key]) => text.replace(said, t(key)), definition);
}
