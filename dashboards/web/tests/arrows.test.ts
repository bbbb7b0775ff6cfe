/** Which folder may use which: domain → session, ui, api. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ARROWS: Record<string, readonly string[]> = {
  api: [],
  ui: [],
  session: ["api"],
  texts: ["session"],
  access: ["ui", "session", "api"],
  fleet: ["ui", "session", "api"],
  compute: ["ui", "session", "api"],
  control: ["ui", "session", "api"],
  // It shows what others hold: their states, not their pages.
  overview: ["ui", "session", "api", "fleet", "compute"],
  frame: ["ui", "session", "api", "access", "fleet", "compute", "control", "overview"],
};
/** The list of paths is everybody's. */
const EVERYBODYS = ["paths"];

test("arrows between folders point one way", () => {
  const source = fileURLToPath(new URL("../src", import.meta.url));
  const offences: string[] = [];
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    const [folder = "", ...rest] = name.split("/");
    if (!/\.(vue|ts)$/.test(name) || rest.length === 0) continue;
    const allowed = ARROWS[folder];
    if (!allowed) offences.push(`${name}: the folder ${folder} has no arrows`);
    const text = readFileSync(join(source, name), "utf8");
    for (const [, target = ""] of text.matchAll(/(?:from|import)\s*\(?"@\/([\w-]+)/g)) {
      if (target !== folder && !EVERYBODYS.includes(target) && !allowed?.includes(target)) offences.push(`${name} uses ${target}`);
    }
    if (folder !== "frame" && /from "@\/\w+\/\w*Page\.vue"/.test(text)) offences.push(`${name} uses another's page`);
  }
  expect(offences).toEqual([]);
});

test("only ui/format rounds", () => {
  const source = fileURLToPath(new URL("../src", import.meta.url));
  const offences: string[] = [];
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!/\.(vue|ts)$/.test(name) || name.startsWith("ui/format/")) continue;
    for (const [found] of readFileSync(join(source, name), "utf8").matchAll(/\.toFixed\(/g)) offences.push(`${name}: ${found}`);
  }
  expect(offences).toEqual([]);
});

test("no page writes a path, reads a clock or words a number by itself", () => {
  const source = fileURLToPath(new URL("../src", import.meta.url));
  const offences: string[] = [];
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith("Page.vue")) continue;
    const text = readFileSync(join(source, name), "utf8");
    for (const [found] of text.matchAll(/\b(?:to|push|replace)[=(]"\/\w+|Date\.now\(\)|Intl\.|toLocaleString/g)) offences.push(`${name}: ${found}`);
  }
  expect(offences).toEqual([]);
});
