/** How the states of hosts are shown, and what follows from a host's figures. */
import type { Tone } from "@/ui/UiStatus.vue";
import type { Host } from "./queries";

export const HOST_STATES = ["up", "stale", "never_seen"] as const satisfies readonly Host["state"][];
export const HOST_TONES: Record<Host["state"], Tone> = { up: "good", stale: "bad", never_seen: "idle" };

/** Memory in use: what programs could not get without swapping. */
export function memoryUsedPercent(host: Pick<Host, "memory_total_bytes" | "memory_available_bytes">): number | null {
  const { memory_total_bytes: total, memory_available_bytes: available } = host;
  return total && available != null ? ((total - available) / total) * 100 : null;
}

/** What a host receives and sends together, as the service ranks the busiest. */
export function networkBytesPerSecond(host: Pick<Host, "network_receive_bytes_per_second" | "network_transmit_bytes_per_second">): number | null {
  const { network_receive_bytes_per_second: received, network_transmit_bytes_per_second: sent } = host;
  return received == null || sent == null ? null : received + sent;
}
