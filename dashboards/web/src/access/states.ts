/** States of people's things, as they are shown. Pure. */
import type { Tone } from "@/ui/UiStatus.vue";
import type { MachineToken, User } from "./queries";

export function userState(user: User): { key: "disabled" | "invited" | "active"; tone: Tone } {
  if (user.disabled) return { key: "disabled", tone: "idle" };
  return user.has_password ? { key: "active", tone: "good" } : { key: "invited", tone: "warn" };
}

export function tokenState(token: MachineToken, now: number): { key: "revoked" | "expired" | "live"; tone: Tone } {
  if (token.revoked_ms != null) return { key: "revoked", tone: "idle" };
  if (token.expires_ms != null && token.expires_ms <= now) return { key: "expired", tone: "idle" };
  return { key: "live", tone: "good" };
}
