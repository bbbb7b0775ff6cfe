/** What one may do, in one table: each action, and the capability and level that it takes. */
import type { Capability, Level, Me } from "./shapes";

export const ACTIONS = {
  "hosts.see": ["measurements", "read"],
  "vms.see": ["measurements", "read"],
  "vms.change": ["measurements", "write"],
  "providers.change": ["measurements", "write"],
  "ledger.import": ["measurements", "write"],
  "agents.see": ["agents", "read"],
  "agents.enrol": ["agents", "write"],
  "agents.revoke": ["agents", "write"],
  "users.see": ["access", "read"],
  "users.change": ["access", "write"],
  "tokens.change": ["access", "write"],
  "organizations.change": ["access", "write"],
  "sessions.end": ["access", "write"],
  "audit.see": ["audit", "read"],
  "settings.see": ["settings", "read"],
  "settings.change": ["settings", "write"],
  "health.see": ["health", "read"],
} as const satisfies Record<string, readonly [Capability, Level]>;

export type Action = keyof typeof ACTIONS;

const RANK: Record<Level, number> = { none: 0, read: 1, write: 2 };

/** Whether a person may, and if not which capability is missing. */
export function may(me: Me | null, action: Action): { readonly ok: boolean; readonly missing: Capability } {
  const [capability, level] = ACTIONS[action];
  return { ok: RANK[me?.capabilities[capability] ?? "none"] >= RANK[level], missing: capability };
}
