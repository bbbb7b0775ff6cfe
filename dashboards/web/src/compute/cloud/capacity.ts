/** What is given to virtual machines, and how amounts of it are shown. Pure. */
import { type Quantity, bytes, processors } from "@/ui/format/number";

/** In the order of the screen. */
export const KINDS = ["cpu", "memory", "storage"] as const;
export type Kind = (typeof KINDS)[number];
export const SHOW: Record<Kind, (value: number) => Quantity> = { cpu: processors, memory: bytes, storage: bytes };
