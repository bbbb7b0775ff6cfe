/** The settings page as the system administrator changes it, and as the auditor sees it. */
import { screenshot } from "./walk.mjs";

async function look(page, url, language, theme, name) {
  await page.evaluate(([speech, look]) => {
    localStorage.setItem("language", speech);
    localStorage.setItem("theme", look);
  }, [language, theme]);
  await page.goto(`${url}/settings`);
  await page.getByRole("heading", { name: language === "en" ? "Backups" : "备份", exact: true }).waitFor();
  await page.getByRole("cell", { name: language === "en" ? "Complete" : "完整", exact: true }).waitFor();
  await screenshot(page, `${name}-${language}-${theme}`);
}

/** Sets retention and a schedule, makes a backup and deletes one. */
export async function settings(system, auditor, url) {
  const { page } = system;
  await page.goto(`${url}/settings`);
  await page.getByText("还没有备份").waitFor();
  await screenshot(page, "settings-empty");
  await page.getByRole("button", { name: "立即备份" }).click();
  await page.getByRole("cell", { name: "完整", exact: true }).waitFor();

  const panel = page.locator("section").filter({ has: page.getByRole("heading", { name: "保留期", exact: true }) });
  await panel.getByRole("button", { name: "修改" }).click();
  await page.getByLabel("原始帧").fill("0.5");
  await page.getByRole("button", { name: "保存" }).click();
  await page.getByRole("heading", { name: "删除超期数据？" }).waitFor();
  await page.getByRole("button", { name: "删除并保存" }).click();
  await page.getByRole("alert").filter({ hasText: "不在 1 天" }).waitFor();
  await screenshot(page, "settings-retention-fault");
  system.faults.length = 0; // the refused value
  await page.getByLabel("原始帧").fill("5");
  await page.getByLabel("审计日志").fill("400");
  await page.getByRole("button", { name: "保存" }).click();
  await page.getByRole("heading", { name: "删除超期数据？" }).waitFor();
  await screenshot(page, "settings-retention-confirm");
  await page.getByRole("button", { name: "删除并保存" }).click();
  await page.getByText("已保存，立即生效").waitFor();
  await panel.getByRole("cell", { name: "5 天" }).waitFor();

  await page.getByRole("button", { name: "自动备份", exact: true }).click();
  await page.getByLabel("间隔").selectOption({ label: "每天" });
  await page.getByLabel("保留份数").fill("3");
  await screenshot(page, "settings-schedule");
  await page.getByRole("button", { name: "保存" }).click();
  await page.getByText("自动备份：每 1 天，保留最新 3 份").waitFor();

  await page.getByRole("button", { name: "立即备份" }).click();
  await page.getByRole("cell", { name: "完整", exact: true }).nth(1).waitFor();
  await page.getByRole("button", { name: /^删除 \d/ }).last().click();
  await page.getByRole("dialog").getByRole("button", { name: "删除", exact: true }).click();
  await page.getByRole("cell", { name: "完整", exact: true }).nth(1).waitFor({ state: "detached" });

  for (const [language, theme] of [["zh-CN", "light"], ["en", "dark"]]) {
    await look(page, url, language, theme, "settings-set");
    await look(auditor.page, url, language, theme, "settings-seen");
  }
  if ((await auditor.page.locator("section button.primary:not([aria-disabled])").count()) > 0) throw new Error("the auditor could press something");
}
