/** A real control service and a real agent, on free ports of this machine, in a directory of their own. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packages } from "./rollout.mjs";

/** Waits until a question has an answer. */
export async function until(what, ask, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await ask();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`waited ${seconds} s in vain: ${what}`);
}

/** Starts both from the folder of the binaries. */
export async function start(binaries) {
  const data = mkdtempSync(join(tmpdir(), "tongtu-e2e-"));
  const children = [];
  const run = (name, args) => {
    const child = spawn(join(binaries, name), args, { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, RUST_LOG: "warn" } });
    children.push(child);
    return child;
  };
  const tell = (name, args) => execFileSync(join(binaries, name), args, { encoding: "utf8" }).trim();
  const stop = async () => {
    for (const child of children.reverse()) {
      if (child.exitCode !== null) continue;
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      await ended;
    }
    rmSync(data, { recursive: true, force: true });
  };
  try {
    const agents = join(data, "programs");
    packages(agents, binaries);
    writeFileSync(join(data, "control.toml"), `[agents]\ndirectory = "${agents}"\n`);
    run("tongtu", ["serve", "--config", join(data, "control.toml"), "--data", data, "--http", "127.0.0.1:0", "--agents", "127.0.0.1:0"]);
    const address = join(data, "http-address");
    const url = await until("control listens", () => existsSync(address) && readFileSync(address, "utf8").trim());
    await until("control is ready", async () => (await fetch(`${url}/readyz`).catch(() => ({ ok: false }))).ok);
    const agent = join(data, "agent");
    tell("tongtu-agent", ["enroll", "--token", tell("tongtu", ["agent", "token", "--data", data]), "--data", agent]);
    run("tongtu-agent", ["run", "--data", agent]);
    return { url, invitation: tell("tongtu", ["invitation", "--data", data]).split("\n").at(-1), stop };
  } catch (cause) {
    await stop();
    throw cause;
  }
}
