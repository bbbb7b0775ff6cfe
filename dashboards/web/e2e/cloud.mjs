/** The cloud as an operator sees it where no hypervisor is yet: what to do next, and providers. */
import { screenshot } from "./walk.mjs";

const row = (page, text) => page.getByRole("row").filter({ hasText: text });

/** Adds two providers, says that this machine is of one, which cannot be deleted then, and deletes nothing else. */
export async function providers(page, url) {
  await page.goto(`${url}/providers`);
  await page.getByRole("heading", { name: "还没有云服务商" }).waitFor();
  await screenshot(page, "providers-empty");
  const dialog = page.getByRole("dialog", { name: "新建云服务商" });
  for (const [name, kind] of [["市政务云平台", "own"], ["落地云", "outsourced"], ["备用云", "outsourced"]]) {
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
  await dialog.getByLabel("名称").fill("落地云");
  await dialog.getByRole("button", { name: "保存" }).click();
  await dialog.getByRole("alert").waitFor();
  await screenshot(page, "provider-fault");
  await page.keyboard.press("Escape");
  await row(page, "落地云").click();
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
  await row(page, "落地云").getByRole("button", { name: "删除" }).click();
  await screenshot(page, "provider-delete");
  await page.getByRole("dialog", { name: "删除云服务商 落地云？" }).getByRole("button", { name: "删除" }).click();
  await row(page, "落地云").waitFor({ state: "detached" });
  await screenshot(page, "providers");
}

/** Where nothing is, each page says what to do next. */
export async function cloudEmpty(page, url) {
  for (const [path, says] of [["/cloud", "还没有虚拟化宿主机"], ["/vms", "还没有虚拟机"], ["/review", "还没有可评估的虚拟机"]]) {
    await page.goto(url + path);
    await page.getByRole("heading", { name: says }).waitFor();
    await screenshot(page, `empty${path.replaceAll("/", "-")}`);
  }
  await page.goto(`${url}/vms/vm_404`);
  await page.getByRole("alert").getByText("没有虚拟机 vm_404").waitFor();
}
