/** The cloud as an operator sees it: what to do next where no hypervisor is yet, providers, and a hypervisor's virtual machine. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { screenshot } from "./walk.mjs";

const row = (page, text) => page.getByRole("row").filter({ hasText: text });

/** Adds two providers, says that this machine is of one, which cannot be deleted then, and deletes nothing else. */
export async function providers(page, url) {
  await page.goto(`${url}/providers`);
  await page.getByRole("heading", { name: "还没有云服务商" }).waitFor();
  await screenshot(page, "providers-empty");
  const dialog = page.getByRole("dialog", { name: "新建云服务商" });
  for (const [name, kind] of [["市政务云平台", "own"], ["甲公司云", "outsourced"], ["备用云", "outsourced"]]) {
    await page.getByRole("button", { name: "新建云服务商" }).first().click();
    await dialog.getByLabel("名称").fill(name);
    await dialog.getByLabel("类型").selectOption(kind);
    await dialog.getByLabel("联系方式").fill("值班室");
    await screenshot(page, "provider-new");
    await dialog.getByRole("button", { name: "保存" }).click();
    await dialog.waitFor({ state: "detached" });
    await row(page, name).waitFor();
  }
  // Each is called otherwise, and the field says so.
  await page.getByRole("button", { name: "新建云服务商" }).first().click();
  await dialog.getByLabel("名称").fill("甲公司云");
  await dialog.getByRole("button", { name: "保存" }).click();
  await dialog.getByRole("alert").waitFor();
  await screenshot(page, "provider-fault");
  await page.keyboard.press("Escape");
  await row(page, "甲公司云").click();
  const change = page.getByRole("dialog", { name: "修改云服务商" });
  await change.getByLabel("联系方式").fill("0592-0000000");
  await change.getByRole("button", { name: "保存" }).click();
  await row(page, "0592-0000000").waitFor();

  await page.goto(`${url}/hosts`);
  await page.getByRole("table").getByRole("link").first().click();
  await page.getByRole("combobox", { name: "云服务商" }).selectOption({ label: "市政务云平台" });
  await page.getByText("已保存宿主机的云服务商").waitFor();
  await page.goto(`${url}/providers`);
  const held = row(page, "市政务云平台").getByRole("button", { name: "删除" });
  await held.waitFor();
  if ((await held.getAttribute("aria-disabled")) !== "true") throw new Error("a provider that a host is of can be deleted");
  await row(page, "甲公司云").getByRole("button", { name: "删除" }).click();
  await screenshot(page, "provider-delete");
  await page.getByRole("dialog", { name: "删除云服务商 甲公司云？" }).getByRole("button", { name: "删除" }).click();
  await row(page, "甲公司云").waitFor({ state: "detached" });
  await screenshot(page, "providers");
}

/** Where nothing is, each page says what to do next. */
export async function cloudEmpty(page, url) {
  const pages = [["/cloud", "还没有虚拟化宿主机"], ["/vms", "还没有虚拟机"], ["/ledger", "还没有台账，也没有虚拟机"], ["/review", "还没有可评估的虚拟机"]];
  const { items } = await page.evaluate(async () => (await fetch("/api/v1/vms")).json());
  if (items.length > 0) console.log("!!  this machine is a virtual one, by its own agent: ONLY THE CLOUD'S PAGE IS WALKED EMPTY");
  for (const [path, says] of items.length > 0 ? pages.slice(0, 1) : pages) {
    await page.goto(url + path);
    await page.getByRole("heading", { name: says }).waitFor();
    await screenshot(page, `empty${path.replaceAll("/", "-")}`);
  }
  await page.goto(`${url}/vms/vm_404`);
  await page.getByRole("alert").getByText("没有虚拟机 vm_404").waitFor();
}

const AGENT = "tongtu-agent-libvirt";

/** Enrols the agent of a hypervisor on libvirt's own test driver, which has one virtual machine, and runs it; null: it was not built. */
export async function hypervisor(page, url, binaries) {
  if (!existsSync(join(binaries, AGENT))) {
    if (process.env.CI) throw new Error(`${AGENT} is not in ${binaries}`);
    console.log(`!!  ${AGENT} is not in ${binaries}: THE PAGES OF VIRTUAL MACHINES ARE WALKED EMPTY`);
    return null;
  }
  const data = mkdtempSync(join(tmpdir(), "tongtu-e2e-hypervisor-"));
  await page.goto(`${url}/agents`);
  await page.getByRole("button", { name: "登记探针" }).click();
  const dialog = page.getByRole("dialog", { name: "登记探针" });
  await dialog.getByRole("button", { name: "生成命令" }).click();
  const [, token] = (await dialog.getByRole("textbox", { name: "登记命令" }).innerText()).match(/--token (\S+)/);
  execFileSync(join(binaries, AGENT), ["enroll", "--token", token, "--data", data]);
  const child = spawn(join(binaries, AGENT), ["run", "--data", data, "--connect", "test:///default"], { stdio: "ignore", env: { ...process.env, RUST_LOG: "error" } });
  return async () => {
    if (child.exitCode === null) {
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      await ended;
    }
    rmSync(data, { recursive: true, force: true });
  };
}

/** It comes by itself and is nobody's; it is given to a department; its charts draw; its host and the cloud count it. */
export async function virtualMachine(page, url) {
  await page.goto(`${url}/vms`);
  await page.getByRole("link", { name: "test", exact: true }).waitFor({ timeout: 60_000 });
  await page.getByRole("group", { name: "按待处理事项筛选" }).getByRole("button", { name: /无归属/ }).click();
  await page.waitForURL(/matter=unowned/);
  await screenshot(page, "vms-unowned");
  await row(page, "test").getByRole("link").click();
  await page.getByRole("heading", { name: "test", level: 1 }).waitFor();
  await page.getByRole("button", { name: "修改归属" }).click();
  const drawer = page.getByRole("dialog", { name: "修改归属：test" });
  await drawer.getByLabel("归属单位").selectOption({ label: "　市教育局" });
  await drawer.getByLabel("归属起始时间").fill("2999-01-01T00:00");
  await drawer.getByRole("button", { name: "保存" }).click();
  // What cannot be is told at its field.
  await drawer.getByRole("alert").filter({ hasText: "归属起始时间" }).waitFor();
  await screenshot(page, "vm-fault");
  await drawer.getByLabel("归属起始时间").fill("");
  await drawer.getByLabel("应用系统").fill("社区网格化");
  await drawer.getByLabel("用途").selectOption("production");
  await drawer.getByLabel("到期时间").fill("2020-01-01T00:00");
  await drawer.getByRole("button", { name: "保存" }).click();
  await page.getByText("已保存 test 的归属").waitFor();
  await page.getByText("使用期限已过").waitFor();
  await page.locator("figure canvas").first().waitFor({ timeout: 60_000 });
  await screenshot(page, "vm");
  await page.goto(`${url}/vms?matter=expired`);
  await row(page, "市教育局").waitFor();
  await page.goto(`${url}/cloud`);
  await page.getByRole("heading", { name: "还能容纳多少虚拟机" }).waitFor();
  await page.getByRole("link", { name: /^已到期/ }).waitFor();
  await screenshot(page, "cloud");
  await page.goto(`${url}/overview`);
  await page.getByRole("listitem").filter({ hasText: "已到期" }).getByRole("link", { name: "1 台虚拟机" }).click();
  await page.waitForURL(/\/vms\?matter=expired/);
}

/** A department with a virtual machine and no host sees it at a glance. */
export async function overviewOfDepartment(page, url) {
  await page.goto(`${url}/overview`);
  await page.getByRole("heading", { name: "虚拟机", level: 2, exact: true }).waitFor();
  await page.getByRole("link", { name: "1", exact: true }).waitFor();
  if (await page.getByRole("heading", { name: "主机", level: 2, exact: true }).count()) throw new Error("hosts are counted for who has none");
  await screenshot(page, "overview-department");
}
