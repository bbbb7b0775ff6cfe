/** What operators and auditors do: enrolling and revoking an agent, the keyboard, the audit log, an outage. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./control.mjs";
import { screenshot } from "./walk.mjs";

/** A second agent by the command of the dialog; it comes by itself, is revoked, and stays so. */
export async function enrolAndRevoke(page, url, binaries) {
  await page.goto(`${url}/agents`);
  await page.getByRole("button", { name: "登记探针" }).click();
  const dialog = page.getByRole("dialog", { name: "登记探针" });
  await screenshot(page, "enrol");
  await dialog.getByRole("button", { name: "生成命令" }).click();
  const command = await dialog.getByRole("textbox", { name: "登记命令" }).innerText();
  await screenshot(page, "enrol-command");
  await dialog.getByRole("button", { name: "关闭" }).last().click();
  const data = mkdtempSync(join(tmpdir(), "tongtu-e2e-agent-"));
  const [enrol, run] = command.split("\n").map((line) => line.replace(/--data \S+/, `--data ${data}`).split(" "));
  let child;
  try {
    execFileSync(join(binaries, enrol[0]), enrol.slice(1));
    // The token is for one machine: the next one is refused, which `happened` looks for.
    const next = enrol.slice(1).map((argument) => (argument === data ? `${data}-next` : argument));
    if (spawnSync(join(binaries, enrol[0]), next).status === 0) throw new Error("a token enrols more machines than it may");
    child = spawn(join(binaries, run[0]), run.slice(1), { stdio: "ignore", env: { ...process.env, RUST_LOG: "error" } });
    // It comes without anybody asking for it.
    const second = page.getByRole("row").filter({ hasText: "agent_2" });
    await second.waitFor({ timeout: 30_000 });
    await second.getByText("正常").waitFor({ timeout: 60_000 });
    await second.click();
    const drawer = page.getByRole("dialog").first();
    await screenshot(page, "agent-drawer");
    await drawer.getByRole("button", { name: "吊销" }).click();
    const sure = page.getByRole("dialog", { name: /^吊销 .*的探针？$/ });
    await screenshot(page, "agent-revoke");
    await sure.getByRole("button", { name: "取消" }).click();
    await drawer.getByRole("button", { name: "吊销" }).click();
    await sure.getByRole("button", { name: "吊销" }).click();
    await drawer.getByText("证书已吊销").waitFor();
    const button = drawer.getByRole("button", { name: /吊销/ });
    if ((await button.getAttribute("aria-disabled")) !== "true") throw new Error("a revoked agent can be revoked again");
    await page.keyboard.press("Escape");
    await second.getByText("已吊销").waitFor();
  } finally {
    if (child && child.exitCode === null) {
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      await ended;
    }
    for (const folder of [data, `${data}-next`]) rmSync(folder, { recursive: true, force: true });
  }
}

/** A token that was made and not used is seen, and taken back. */
export async function revokeToken(page, url) {
  await page.goto(`${url}/agents`);
  await page.getByRole("button", { name: "登记探针" }).click();
  await page.getByRole("button", { name: "生成命令" }).click();
  await page.getByRole("textbox", { name: "登记命令" }).waitFor();
  await page.getByRole("dialog", { name: "登记探针" }).getByRole("button", { name: "关闭" }).last().click();
  await page.getByRole("button", { name: "登记令牌", exact: true }).click();
  const tokens = page.getByRole("dialog", { name: "登记令牌", exact: true }).getByRole("region", { name: /^enrolment_/ });
  await tokens.first().getByText("剩余 1，共 1").waitFor();
  const before = await tokens.count();
  await screenshot(page, "enrolment-tokens");
  await tokens.first().getByRole("button", { name: "吊销" }).click();
  await page.getByRole("dialog", { name: /^吊销登记令牌/ }).getByRole("button", { name: "吊销" }).click();
  await page.getByText("已吊销登记令牌").waitFor();
  await until("the token is gone from the list", async () => (await tokens.count()) === before - 1, 10);
  await page.keyboard.press("Escape");
}

/** Without a mouse: into the list, along it, into a drawer and out again, and by Ctrl-K elsewhere. */
export async function keyboard(page, url) {
  await page.goto(`${url}/agents`);
  await page.getByRole("row").filter({ hasText: "agent_1" }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("data-at"));
  await until("the keyboard reaches the list", async () => {
    await page.keyboard.press("Tab");
    return (await focused()) === "0";
  }, 20);
  await page.keyboard.press("ArrowDown");
  if ((await focused()) !== "1") throw new Error("the arrow does not walk");
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.waitForURL(/agent=agent_/);
  await screenshot(page, "keyboard-drawer");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  if ((await focused()) !== "0") throw new Error("the focus does not come back to the row");
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox").fill("host_1");
  await page.getByRole("option").first().waitFor();
  await screenshot(page, "quick");
  await page.keyboard.press("Escape");
}

/** Filters, both exports, and the proof. */
export async function audit(page, url) {
  await page.goto(`${url}/audit`);
  const rows = page.getByRole("row");
  await rows.nth(5).waitFor();
  await page.getByLabel("操作者或其编号").fill("security");
  await page.keyboard.press("Enter");
  await page.getByRole("combobox", { name: "操作", exact: true }).selectOption("user.create");
  await page.waitForURL(/actor=security.*action=user.create|action=user.create.*actor=security/);
  await rows.filter({ hasText: "新建用户" }).nth(3).waitFor();
  await page.getByLabel("操作者或其编号").fill("");
  await page.keyboard.press("Enter");
  await page.getByRole("combobox", { name: "操作", exact: true }).selectOption("");
  await page.getByRole("combobox", { name: "结果", exact: true }).selectOption("refused");
  await page.waitForURL(/result=refused/);
  await rows.filter({ hasText: "拒绝" }).first().waitFor();
  await rows.filter({ hasText: "完成" }).first().waitFor({ state: "detached" });
  await screenshot(page, "audit-refused");
  await page.getByRole("combobox", { name: "结果", exact: true }).selectOption("");
  await page.getByRole("combobox", { name: "操作", exact: true }).selectOption("agent.revoke");
  await page.waitForURL(/action=agent.revoke/);
  await rows.filter({ hasText: "吊销探针" }).click();
  await page.getByRole("dialog").getByText("agent.revoke").waitFor();
  await screenshot(page, "audit-entry");
  await page.keyboard.press("Escape");
  // What is exported is what the filters leave, by the service alone.
  if (await page.getByRole("button", { name: "CSV" }).count()) throw new Error("the table exports what it shows beside what the service exports");
  for (const [name, head] of [["CSV", 1], ["JSON Lines", 0]]) {
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: `导出 ${name}` }).click()]);
    const lines = readFileSync(await file.path(), "utf8").trim().split("\n");
    if (lines.length !== head + 1 || !lines[head].includes("agent.revoke") || (head && !lines[0].startsWith("number,at"))) throw new Error(`the export as ${name} holds ${JSON.stringify(lines).slice(0, 300)}`);
  }
  await page.getByRole("button", { name: "校验" }).click();
  await page.getByText(/条记录完整，链条未断/).waitFor();
  await screenshot(page, "audit-verified");
}

/** Pages ask for no live updates that would be refused: each would stand in the audit log. */
export async function unasked(page) {
  const refused = await page.evaluate(async () => (await (await fetch("/api/v1/audit?result=refused&action=GET%20/api/v1/live")).json()).items);
  if (!refused || refused.length > 0) throw new Error(`refused: ${JSON.stringify(refused)}`);
}

/** A list longer than the screen: to its end by the keyboard, back by the wheel. Each element shows its row, the focus stays with its own. */
export async function longList(page, url) {
  await page.goto(`${url}/audit`);
  await page.getByRole("row").nth(5).waitFor();
  const look = () =>
    page.evaluate(() => {
      const rows = [...document.querySelectorAll("tbody tr[data-at]")].map((row) => ({ at: Number(row.dataset.at), text: row.innerText, number: Number(row.cells[0].innerText.replace(/\D/g, "")) }));
      return { rows, count: Number(document.querySelector("table").ariaRowCount) - 1, focused: document.activeElement?.innerText, at: Number(document.activeElement?.dataset.at), top: document.querySelector(".rows").scrollTop };
    });
  /** The newest entry has the highest number and stands first. */
  const isTrue = ({ rows }, newest) => rows.every(({ at, number }) => at + number === newest);
  const inOrder = ({ rows }) => rows.every(({ at }, index) => index === 0 || at > rows[index - 1].at);
  const begun = await look();
  const newest = begun.rows[0].number;
  if (begun.count < 60 || begun.rows.length >= begun.count || !isTrue(begun, newest)) throw new Error(`not a long list: ${JSON.stringify(begun)}`);
  await page.locator("tbody tr[data-at='0']").focus();
  await page.keyboard.press("End");
  const end = await look();
  if (end.at !== end.count - 1 || !isTrue(end, newest)) throw new Error(`the keyboard did not come to the end: ${JSON.stringify(end)}`);
  await page.locator(".rows").hover();
  await page.mouse.wheel(0, -100_000);
  const back = await until("the list stands still at its beginning", async () => {
    const seen = await look();
    return seen.top === 0 && seen.rows[0].at === 0 && inOrder(seen) && seen;
  }, 10);
  if (!isTrue(back, newest) || back.focused !== end.focused || back.at !== end.at) throw new Error(`scrolled back: ${JSON.stringify(back)}`);
  await page.keyboard.press("ArrowUp");
  const up = await look();
  if (up.at !== end.at - 1 || up.top === 0) throw new Error(`the keyboard does not go on where it was: ${JSON.stringify(up)}`);
}

/** Control is gone: said since when, figures marked as old; it comes back by itself. */
export async function outage(page, url) {
  await page.goto(`${url}/overview`);
  await page.getByRole("heading", { name: "最近事件" }).waitFor();
  await page.locator("figure canvas").nth(3).waitFor();
  await page.context().setOffline(true);
  await page.getByText("无法连接控制服务").waitFor({ timeout: 60_000 });
  await page.locator("main.old").waitFor();
  await screenshot(page, "outage");
  await page.context().setOffline(false);
  await page.getByText("连接已恢复").waitFor({ timeout: 30_000 });
  await page.locator("main:not(.old)").waitFor();
  await screenshot(page, "outage-over");
}

/** What happened is told. */
export async function happened(page, url) {
  await page.goto(`${url}/overview`);
  const events = page.locator("section").filter({ has: page.getByRole("heading", { name: "最近事件" }) });
  for (const text of ["探针已登记", "探针上报正常", "探针被吊销", "登记被拒", "登记令牌已用完"]) await events.getByText(text).first().waitFor({ timeout: 30_000 });
  await events.getByRole("listitem").filter({ hasText: "登记被拒" }).getByText("127.0.0.1").waitFor();
  await screenshot(page, "events");
}

/** Wide and small screens. */
export async function sizes(browser, context, url) {
  for (const [name, viewport] of [["4k", { width: 3840, height: 2160 }], ["1366", { width: 1366, height: 768 }]]) {
    const other = await browser.newContext({ viewport, locale: "zh-CN", storageState: await context.storageState() });
    const page = await other.newPage();
    for (const [path, ready] of [["/overview", page.getByRole("heading", { name: "最近事件" })], ["/hosts", page.getByRole("row").nth(1)], ["/hosts/host_1", page.locator("figure canvas").first()]]) {
      await page.goto(url + path);
      await ready.waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth || (document.querySelector("main")?.scrollWidth ?? 0) > (document.querySelector("main")?.clientWidth ?? 0));
      if (wide) throw new Error(`${path} is wider than ${viewport.width}`);
      await screenshot(page, `${name}${path.replaceAll("/", "-")}`);
    }
    await other.close();
  }
}
