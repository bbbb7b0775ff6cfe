/** How the states of agents are shown, and what can be done in each. */
import type { Tone } from "@/ui/UiStatus.vue";
import type { Agent, EnrolmentToken } from "./queries";

export const AGENT_STATES = ["up", "late", "lost", "cloned", "never_seen", "revoked"] as const satisfies readonly Agent["state"][];

export const AGENT_TONES: Record<Agent["state"], Tone> = { up: "good", late: "warn", lost: "bad", cloned: "bad", never_seen: "idle", revoked: "idle" };

/** Why an agent cannot be revoked, as a key; null: it can. */
export function revokeFault(agent: Agent): string | null {
  return agent.state === "revoked" ? "agents.already_revoked" : null;
}

/** The key of the word for what an agent tells of. */
export function kindKey({ kind }: Agent): string {
  return `rollout_program.${kind}`;
}

/** Whether machines can still be enrolled with a token. */
export function isLive(token: EnrolmentToken, now: number): boolean {
  return token.revoked_ms == null && token.uses_left > 0 && token.expires_ms > now;
}
