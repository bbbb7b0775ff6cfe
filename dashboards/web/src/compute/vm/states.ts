/** How the states of virtual machines are shown, and what about one needs somebody. */
import type { Tone } from "@/ui/UiStatus.vue";
import type { Vm } from "./queries";

export const VM_STATES = ["running", "paused", "shutting_down", "shut_off", "crashed", "suspended", "unknown", "gone", "stale", "never_seen"] as const satisfies readonly Vm["state"][];
export const VM_TONES: Record<Vm["state"], Tone> = {
  running: "good",
  paused: "warn",
  shutting_down: "warn",
  shut_off: "idle",
  crashed: "bad",
  suspended: "idle",
  unknown: "warn",
  gone: "idle",
  stale: "bad",
  never_seen: "idle",
};

export const PURPOSES = ["production", "development", "emergency"] as const satisfies readonly Vm["purpose"][];

/** What about one that is there needs somebody, the worst first. */
export const MATTERS = ["conflict", "expired", "unowned"] as const;
export type Matter = (typeof MATTERS)[number];
export const MATTER_TONES: Record<Matter, Tone> = { conflict: "bad", expired: "warn", unowned: "warn" };

const IS: Record<Matter, (vm: Vm) => boolean> = {
  conflict: ({ conflict }) => conflict != null,
  expired: ({ expired }) => expired,
  unowned: ({ assigned }) => !assigned,
};
export const hasMatter = (vm: Vm, matter: Matter) => vm.state !== "gone" && IS[matter](vm);
export const mattersOf = (vm: Vm): readonly Matter[] => MATTERS.filter((matter) => hasMatter(vm, matter));
