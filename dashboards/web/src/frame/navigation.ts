/** The navigation: groups of pages in the order of the work. */
import type { PathName } from "@/paths";
import type { Action } from "@/session/can";
import type { IconName } from "@/ui/UiIcon.vue";

export interface Place {
  readonly page: Exclude<PathName, "host" | "vm" | "rollout" | "login" | "invitation">;
  readonly icon: IconName;
  /** Without it the place is not shown. */
  readonly needs?: Action;
}

export const NAVIGATION: readonly { readonly group: string; readonly places: readonly Place[] }[] = [
  {
    group: "watch",
    places: [
      { page: "overview", icon: "overview", needs: "hosts.see" },
      { page: "hosts", icon: "host", needs: "hosts.see" },
      { page: "agents", icon: "agent", needs: "agents.see" },
      { page: "rollouts", icon: "rollout", needs: "agents.see" },
    ],
  },
  {
    group: "cloud",
    places: [
      { page: "cloud", icon: "cloud", needs: "vms.see" },
      { page: "vms", icon: "vm", needs: "vms.see" },
      { page: "ledger", icon: "ledger", needs: "vms.see" },
      { page: "review", icon: "review", needs: "vms.see" },
      { page: "providers", icon: "provider", needs: "vms.see" },
    ],
  },
  {
    group: "people",
    places: [
      { page: "users", icon: "user", needs: "users.see" },
      { page: "roles", icon: "role", needs: "users.see" },
      { page: "organizations", icon: "organization", needs: "users.see" },
      { page: "tokens", icon: "token", needs: "users.see" },
      { page: "sessions", icon: "session", needs: "users.see" },
    ],
  },
  {
    group: "service",
    places: [
      { page: "audit", icon: "audit", needs: "audit.see" },
      { page: "settings", icon: "settings", needs: "settings.see" },
      { page: "account", icon: "account" },
    ],
  },
];
