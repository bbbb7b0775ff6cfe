/** Why control is not well, as keys of words: its sentences are English. Pure. */

/** Of a whole sentence; the word may be missing. */
export function checkReasonKey(reason: string): string {
  return `settings.check_reason.${reason.toLowerCase().replace(/[^a-z0-9]+/g, "_")}`;
}

/** How the sentence runs, whatever path or error stands in it. A test holds them against the service's code. */
const BACKUP_REASONS = [
  [/^the database cannot be copied: /, "database"],
  [/ cannot be written: /, "file"],
  [/^it was stopped, because control was$/, "stopped"],
] as const;

/** Of why a backup was not made. */
export function backupReasonKey(reason: string): string {
  return `settings.backup_reason.${BACKUP_REASONS.find(([pattern]) => pattern.test(reason))?.[1] ?? "other"}`;
}
