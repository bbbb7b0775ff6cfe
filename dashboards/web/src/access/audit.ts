/** How the audit log's names are shown: each action, request and reason by the key of its word. Pure. */
import { NONE } from "@/ui/format/number";
import { instant } from "@/ui/format/time";

/** What is done and recorded; a test holds it against the service's code. */
export const ACTIONS = [
  "account.password",
  "account.update",
  "agent.enrol",
  "agent.enrol_again",
  "agent.renew",
  "agent.revoke",
  "agent_configuration.update",
  "audit.checkpoints_lost",
  "audit.key_lost",
  "audit.retain",
  "backup.create",
  "backup.delete",
  "backup.restore",
  "backup_schedule.update",
  "enrolment_token.create",
  "enrolment_token.revoke",
  "first_link.create",
  "host.update",
  "host_key.confirm",
  "host_key.delete",
  "invitation.accept",
  "ledger.import",
  "organization.create",
  "organization.update",
  "provider.create",
  "provider.delete",
  "provider.update",
  "retention.update",
  "rollout.create",
  "rollout.machine",
  "rollout.resume",
  "session.begin",
  "session.end",
  "token.create",
  "token.revoke",
  "user.create",
  "user.invite",
  "user.update",
  "user.update.roles",
  "vm.update",
] as const;

/** Entries that say that a file was missing without which the log before them is not proven. */
export const LOSSES = ["audit.checkpoints_lost", "audit.key_lost"] as const satisfies readonly (typeof ACTIONS)[number][];

const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "");

/** `user.update` was done; `POST /api/v1/users/{id}` was asked for and refused. */
export function actionKey(action: string): string {
  return action.includes(" ") ? `audit.request_name.${plain(action.replace("/api/v1", ""))}` : `audit.action_name.${plain(action)}`;
}

export function reasonKey(reason: string): string {
  return `audit.reason_name.${plain(reason)}`;
}

/** A number of milliseconds above this is no span but an instant. */
const LONGEST_SPAN_MS = 1e11;

/** What stood before or after a change, as it is stored; before the number of an instant stands what it means. */
export function stored(value: unknown): string {
  if (value == null) return NONE;
  const meaning = (key: string, part: unknown) => (key.endsWith("_ms") && typeof part === "number" && part > LONGEST_SPAN_MS ? `${instant(part)} (${part})` : part);
  return JSON.stringify(value, meaning, 2);
}
