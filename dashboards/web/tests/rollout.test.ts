/** Machines as a person writes them. */
import { expect, test } from "vitest";
import { machineOf, machinesOf, placeOf } from "../src/fleet/rollout/machines";
import { versions } from "../src/fleet/rollout/states";

test("a line is a machine, what is left out is left to the service", () => {
  expect(machinesOf("10.1.2.3\n\n# later\nadmin@web-1:2222, 东机房 # the gate\nfd00::1，西机房\nroot@[fd00::2]:23\na@realm@h\t东")).toEqual([
    { address: "10.1.2.3" },
    { address: "web-1", port: 2222, user: "admin", site: "东机房" },
    { address: "fd00::1", site: "西机房" },
    { address: "[fd00::2]", port: 23, user: "root" },
    { address: "h", user: "a@realm", site: "东" },
  ]);
  expect(machinesOf(" \n")).toEqual([]);
});

test("what is no machine is sent as it is, for the service to refuse", () => {
  expect(machinesOf("two words\nh:port\n@h")).toEqual([{ address: "two words" }, { address: "h:port" }, { address: "h" }]);
});

test("a fault names the machine by its line's place", () => {
  expect([machineOf("machines[3].address"), machineOf("credential")]).toEqual([4, null]);
});

test("a machine is told from others at its address", () => {
  const places = [{ address: "h", port: 22 }, { address: "h", port: 2222 }, { address: "fd00::1", port: 23 }];
  expect(places.map(placeOf)).toEqual(["h", "h:2222", "[fd00::1]:23"]);
});

test("a version that was replaced stands before the one that is there", () => {
  const of = (version_before: string | null, version: string | null) => versions({ version_before, version });
  expect([of(null, null), of(null, "0.1.0"), of("0.1.0", "0.1.0"), of("0.1.0", "0.2.0"), of("0.1.0", null)]).toEqual([undefined, "0.1.0", "0.1.0", "0.1.0 → 0.2.0", "0.1.0 → –"]);
});
