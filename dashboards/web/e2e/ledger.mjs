/** The ledger as an operator sees it: a table with a wrong row, tried first, then imported, then held against what is measured. */
import { readFileSync } from "node:fs";
import { screenshot } from "./walk.mjs";

const HEADER = "虚拟机名称,使用单位,应用系统,用途,到期时间,vCPU,内存(GB)";

/** `measured`: a hypervisor reports the machine `test`. */
export async function ledger(page, url, measured) {
  await page.goto(`${url}/ledger`);
  await page.getByRole("heading", { name: "台账对账", level: 1 }).waitFor();
  const template = page.waitForEvent("download");
  await page.getByRole("link", { name: "下载模板" }).first().click();
  if (!readFileSync(await (await template).path()).subarray(0, 2).equals(Buffer.from("PK"))) throw new Error("the template is no workbook");

  await page.getByRole("button", { name: "导入台账" }).first().click();
  const dialog = page.getByRole("dialog", { name: "导入台账" });
  const held = dialog.getByRole("button", { name: /^导入/ });
  if ((await held.getAttribute("aria-disabled")) !== "true") throw new Error("what was not tried can be imported");
  const choose = (name, text) => dialog.getByLabel("台账文件").setInputFiles({ name, mimeType: "text/csv", buffer: Buffer.from(text) });
  await choose("wrong.csv", "虚机名称,部门\na,b\n");
  await dialog.getByRole("button", { name: /^试运行/ }).click();
  await dialog.getByRole("alert").filter({ hasText: "缺少列：虚拟机名称 (“虚机名称”与之相近)" }).waitFor();
  await screenshot(page, "ledger-refused");

  await choose("台账.csv", `${HEADER}\ntest,市教育局,社区网格化,生产,,16,8\njia-01,市教育局,外包应用,应急,,4,8\njia-02,没有的局,,,,,\n`);
  await dialog.getByRole("button", { name: /^试运行/ }).click();
  await dialog.getByText("试运行完成，尚未写入").waitFor();
  await dialog.getByText("“使用单位”没有此组织：没有的局").waitFor();
  await dialog.getByText("列“到期时间”未使用：是否应为“到期日期”？").waitFor();
  await dialog.getByRole("cell", { name: "jia-01" }).waitFor();
  await screenshot(page, "ledger-tried");
  const failed = page.waitForEvent("download");
  await dialog.getByRole("link", { name: "下载失败行" }).click();
  if (!readFileSync(await (await failed).path()).subarray(0, 2).equals(Buffer.from("PK"))) throw new Error("the failed rows are no workbook");
  await held.click();
  await page.getByText("已导入 台账.csv").waitFor();
  await dialog.getByText("导入完成").waitFor();
  await screenshot(page, "ledger-imported");
  await dialog.getByRole("button", { name: "关闭" }).last().click();
  await dialog.waitFor({ state: "detached" });

  const row = (name) => page.getByRole("row").filter({ hasText: name });
  await row("jia-01").filter({ hasText: "仅台账" }).waitFor();
  if (measured) {
    await row("test").filter({ hasText: "不一致" }).filter({ hasText: "vCPU：16 / " }).waitFor();
    await screenshot(page, "ledger");
    await page.getByRole("group", { name: "按对账结果筛选" }).getByRole("button", { name: /不一致/ }).click();
    await page.waitForURL(/standing=conflicting/);
    await row("jia-01").waitFor({ state: "detached" });
    await row("test").getByRole("cell").first().click();
    const drawer = page.getByRole("dialog", { name: "test" });
    await drawer.getByRole("row").filter({ hasText: "vCPU" }).filter({ hasText: "不一致" }).waitFor();
    await screenshot(page, "ledger-entry");
    await drawer.getByRole("link", { name: "打开虚拟机" }).click();
    await page.getByRole("heading", { name: "test", level: 1 }).waitFor();
  }
}
