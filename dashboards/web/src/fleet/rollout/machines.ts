/** Machines as a person writes them: one a line, what stands around the address may be left out. Pure. */
import type { Machine } from "./queries";

/** `USER@HOST:PORT, SITE` as the command line takes it, with a comma of either language or a tab before the site; empty
 * lines and what follows a # say nothing. What is no machine is left to the service to refuse, by its line's place. */
export function machinesOf(text: string): Machine[] {
  return text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim())
    .filter(Boolean)
    .map((line) => {
      const [login = "", site = ""] = line.split(/[,，\t]/).map((part) => part.trim());
      const at = login.lastIndexOf("@");
      const place = login.slice(at + 1);
      // An IPv6 address has colons of its own, so it stands in brackets before a port.
      const [, address = place, port] = /^(\[.*\]|[^:]*)(?::(\d+))?$/.exec(place) ?? [];
      return { address, ...(port ? { port: Number(port) } : {}), ...(at > 0 ? { user: login.slice(0, at) } : {}), ...(site ? { site } : {}) } as Machine;
    });
}

/** A machine as it is told from others at its address: with the port, unless it is the usual one. */
export function placeOf({ address, port }: { readonly address: string; readonly port: number }): string {
  return port === 22 ? address : `${address.includes(":") ? `[${address}]` : address}:${port}`;
}

/** A fault of `machines[3].address` as that of the fourth machine; null: it is not one of a machine. */
export function machineOf(field: string): number | null {
  const found = /^machines\[(\d+)\]/.exec(field)?.[1];
  return found === undefined ? null : Number(found) + 1;
}
