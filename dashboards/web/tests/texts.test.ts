/** Both languages say everything, and everything that the pages ask for. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ACTIONS, actionKey, reasonKey, stored } from "../src/access/audit";
import { backupReasonKey, checkReasonKey } from "../src/control/reasons";
import en from "../src/texts/en";
import zh from "../src/texts/zh-CN";
import { definitionText } from "../src/ui/chart/definition";

type Texts = { readonly [key: string]: string | Texts };

function leaves(texts: Texts, above = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(texts)) {
    const path = above ? `${above}.${key}` : key;
    if (typeof value === "string") found.set(path, value);
    else for (const [below, text] of leaves(value, path)) found.set(below, text);
  }
  return found;
}

const chinese = leaves(zh as Texts);
const english = leaves(en as Texts);
const source = fileURLToPath(new URL("../src", import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) => /\.(vue|ts)$/.test(name) && !name.startsWith("texts") && !name.startsWith("api"));
const code = files.map((name) => ({ name, text: readFileSync(join(source, name), "utf8") }));

test("the two languages have the same keys", () => {
  expect([...english.keys()].filter((key) => !chinese.has(key))).toEqual([]);
  expect([...chinese.keys()].filter((key) => !english.has(key))).toEqual([]);
});

test("a text has the same places in both languages", () => {
  const places = (text: string | undefined) => (text?.match(/\{\w+\}/g) ?? []).sort();
  for (const [key, text] of chinese) expect(places(english.get(key)), key).toEqual(places(text));
});

test("a text uses nothing of a format but places with names", () => {
  const left = (text: string) => text.replace(/\{[a-z_][\w]*\}/g, "");
  expect([...chinese, ...english].filter(([, text]) => /[{}|]|@[:.]/.test(left(text)))).toEqual([]);
});

test("no Chinese stands in the English texts", () => {
  const allowed = ["frame.name", "frame.language_change"];
  expect([...english].filter(([key, text]) => /\p{Script=Han}/u.test(text) && !allowed.includes(key))).toEqual([]);
});

test("every key that is asked for is there", () => {
  const missing: string[] = [];
  for (const { name, text } of code) {
    for (const [, key] of text.matchAll(/\bt\("([\w.-]+)"/g)) if (key && !chinese.has(key)) missing.push(`${name}: ${key}`);
    for (const [, key] of text.matchAll(/\bt\('([\w.-]+)'/g)) if (key && !chinese.has(key)) missing.push(`${name}: ${key}`);
    // Of a key with a part that varies, something begins like it.
    for (const [, begin] of text.matchAll(/\bt\(`([\w.-]+)\$\{/g)) if (begin && ![...chinese.keys()].some((key) => key.startsWith(begin))) missing.push(`${name}: ${begin}…`);
  }
  expect(missing).toEqual([]);
});

test("every text is asked for", () => {
  const all = code.map(({ text }) => text).join("\n");
  const begins = [...all.matchAll(/`([\w]+(?:\.[\w]+)*[._])\$\{/g)].map(([, begin]) => begin ?? "");
  const unused = [...chinese.keys()].filter((key) => !all.includes(`"${key}"`) && !all.includes(`'${key}'`) && !begins.some((begin) => key.startsWith(begin)));
  expect(unused).toEqual([]);
});

test("no text stands in a page itself", () => {
  const own = code.filter(({ name }) => name.endsWith(".vue")).flatMap(({ name, text }) => {
    const template = text.slice(text.indexOf("<template>"), text.lastIndexOf("</template>"));
    return [...template.matchAll(/\p{Script=Han}+/gu)].map(([word]) => `${name}: ${word}`);
  });
  // Each language is named in itself.
  expect(own.filter((one) => !/中文$|简体中文$/.test(one))).toEqual([]);
});

const rust = fileURLToPath(new URL("../../../src", import.meta.url));
const service = readdirSync(rust, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".rs") && !/(^|\/)tests(\/|\.rs$)/.test(name))
  .map((name) => readFileSync(join(rust, name), "utf8").split("#[cfg(test)]\nmod tests {")[0] ?? "");
const found = (pattern: RegExp) => [...new Set(service.flatMap((text) => [...text.matchAll(pattern)].map(([, name]) => name ?? "")))].sort();

test("every action that the service records has a word", () => {
  const actions = found(/"([a-z_]+\.(?:accept|begin|checkpoints_lost|confirm|key_lost|machine|create|delete|end|enrol|enrol_again|import|invite|password|renew|restore|resume|retain|revoke|update|update\.roles))"/g);
  expect(actions.length).toBeGreaterThan(10);
  expect(actions).toEqual([...ACTIONS].sort());
  expect([...actions, "many"].map(actionKey).filter((key) => !chinese.has(key))).toEqual([]);
});

interface Schema {
  readonly enum?: readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
}
const { paths, components } = JSON.parse(readFileSync(join(rust, "openapi.json"), "utf8")) as { paths: Record<string, Record<string, unknown>>; components: { schemas: Record<string, Schema> } };
const schema = (name: string): Schema => components.schemas[name] ?? {};
/** Names that a description gives between backticks. */
const named = ({ description = "" }: Schema = {}) => [...description.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name ?? "");

test("every request that may be refused has a word", () => {
  const requests = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  expect(requests.map(actionKey).filter((key) => !chinese.has(key))).toEqual([]);
});

test("every reason of a refusal has a word", () => {
  const reasons = [...found(/^ {4,8}\(?\s*"([a-z-]+)",\s*"\p{Script=Han}/gmu), ...found(/AuditResult::(?:Refused|Failed), "([^"]+)"/g), ...found(/login_refused\([^;"]*"([^"]+)"/g)];
  expect(reasons).toContain("forbidden");
  expect(reasons.map(reasonKey).filter((key) => !chinese.has(key))).toEqual([]);
});

test("every reason of a gap or a loss has a word", () => {
  const names = readFileSync(join(rust, "telemetry/gaps.rs"), "utf8").match(/fn name\(self\)[\s\S]*?\n {4}\}/)?.[0] ?? "";
  const reasons = [...names.matchAll(/=> "([a-z_]+)"/g)].map(([, name]) => name ?? "");
  expect(reasons).toContain("unreadable");
  // Both lists are told to who reads the API.
  expect(named(schema("GapReport").properties?.reason).sort()).toEqual([...reasons].sort());
  const lost = named(schema("LossReport").properties?.reason);
  expect(lost).toContain("lost_spool_size");
  const refusals = readFileSync(join(rust, "telemetry/instruments.rs"), "utf8").match(/fn reason\(refusal[\s\S]*?\n\}/)?.[0] ?? "";
  const refused = [...refusals.matchAll(/=> "([a-z_]+)"/g)].map(([, name]) => `refusal.${name}`);
  expect(refused).toContain("refusal.checksum");
  expect(refused.filter((key) => !chinese.has(key))).toEqual([]);
  expect([...reasons, ...lost].map((reason) => `gap.${reason}`).filter((key) => !chinese.has(key))).toEqual([]);
});

test("every fault of the audit log and every kind of actor has a word", () => {
  const faults = schema("FaultKind").enum ?? [];
  const kinds = named(schema("AuditActor").properties?.kind);
  expect(faults).toContain("truncated");
  expect(kinds).toContain("nobody");
  const keys = [...faults.flatMap((kind) => [`audit.fault.${kind}`, `audit.fault_text.${kind}`]), ...kinds.map((kind) => `audit.kind.${kind}`)];
  expect(keys.filter((key) => !chinese.has(key))).toEqual([]);
});

test("every event of the overview has a word", () => {
  const kinds = (schema("Event").oneOf ?? []).flatMap((one) => [one, ...(one.allOf ?? [])]).flatMap(({ properties }) => properties?.kind?.enum ?? []);
  expect(kinds.sort()).toEqual(["agent", "agent_refused", "host_started"]);
  const events = ["host_started", ...(schema("AgentState").enum ?? []), ...(schema("AgentAttempt").enum ?? []).map((attempt) => `refused_${attempt}`)];
  expect(events).toContain("refused_enrol");
  expect(events.map((name) => `event.${name}`).filter((key) => !chinese.has(key))).toEqual([]);
});

test("every definition of a series has words", () => {
  const definitions = readFileSync(join(rust, "telemetry/report.rs"), "utf8").match(/let definition = match[\s\S]*?\};/)?.[0] ?? "";
  const said = [...definitions.matchAll(/=> "([^"]+)"/g)].map(([, text]) => text ?? "");
  expect(said.length).toBeGreaterThan(2);
  const inChinese = (definition: string) => definitionText(definition, (key) => chinese.get(key) ?? key);
  expect(said.filter((definition) => !/^[\p{Script=Han} ÷]+$/u.test(inChinese(definition)))).toEqual([]);
  expect(inChinese(`Σ (${said[0]}) ÷ 4 × 100`)).toMatch(/^Σ \(\p{Script=Han}.*\) ÷ 4 × 100$/u);
});

test("why control is not ready, and why a backup was not made, is said in words", () => {
  const reasons = [
    ...found(/\.phase\("([^"]+)"\)/g),
    ...found(/phase = std::sync::Mutex::new\("([^"]+)"\)/g),
    ...found(/shutdown\.is_triggered\(\)\.then\(\|\| "([^"]+)"/g),
    ...found(/is_disk_full\(&error\) => Some\("([^"]+)"/g),
    ...found(/\.failed\(Some\(if full \{\s*"([^"]+)"/g),
    ...found(/\.failed\(Some\(if full \{[^}]*\} else \{\s*"([^"]+)"/g),
  ];
  expect(reasons.length).toBeGreaterThan(9);
  expect(reasons.map(checkReasonKey).filter((key) => !chinese.has(key))).toEqual([]);
  const checks = found(/Check::new\(\s*"([a-z]+)"/g);
  expect(checks).toContain("database");
  expect(checks.flatMap((name) => [`settings.check_name.${name}`, `settings.check_fault.${name}`]).filter((key) => !chinese.has(key))).toEqual([]);
  const copy = readFileSync(join(rust, "backup/copy.rs"), "utf8");
  const sentences = [...copy.matchAll(/#\[error\("([^"]+)"/g)].map(([, text]) => text ?? "").filter((text) => !text.includes("MiB were free"));
  expect(sentences.map(backupReasonKey).sort()).toEqual(["database", "file", "stopped"].map((kind) => `settings.backup_reason.${kind}`));
});

test("an instant in the audit log is told as a time, a span is not", () => {
  expect(stored({ revoked_ms: 1_796_037_946_209, ttl_ms: 600_000 })).toBe('{\n  "revoked_ms": "2026-11-30 19:25:46 (1796037946209)",\n  "ttl_ms": 600000\n}');
  expect(stored(null)).toBe("–");
});
