/** What the session does with refusals. */
import { createPinia, setActivePinia } from "pinia";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Me } from "../src/session/shapes";

const answered = vi.fn<(request: Request) => Promise<Response>>();
const problem = (status: number) => new Response(JSON.stringify({ title: "t", status, checks: [] }), { status });

beforeEach(() => {
  setActivePinia(createPinia());
  vi.stubGlobal("location", { origin: "http://127.0.0.1" });
  vi.stubGlobal("fetch", answered);
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

describe("logging out", () => {
  async function begun() {
    const { useSession } = await import("../src/session/store");
    const session = useSession();
    session.begin({ csrf: "token" } as Me);
    return session;
  }

  it("leaves the person logged in while the service does not answer", async () => {
    const session = await begun();
    answered.mockRejectedValueOnce(new TypeError("no connection"));
    await expect(session.logout()).rejects.toMatchObject({ status: 0 });
    expect(session.me).not.toBeNull();
  });

  it("is done when the session had ended before", async () => {
    const session = await begun();
    answered.mockResolvedValueOnce(problem(401));
    await session.logout();
    expect(session.me).toBeNull();
  });
});

describe("what is asked for when nobody is there", () => {
  const AUTOMATIC = "x-tongtu-automatic";
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("says so, until somebody comes", async () => {
    const { api } = await import("../src/session/request");
    const { watchPresence } = await import("../src/session/presence");
    const page = new EventTarget();
    watchPresence(page);
    answered.mockImplementation(async () => new Response("{}"));
    const asked = async (ask: () => Promise<unknown>) => {
      await ask();
      return answered.mock.lastCall?.[0].headers.get(AUTOMATIC) ?? null;
    };
    const look = () => api.GET("/api/v1/roles");
    expect(await asked(look)).toBeNull();
    vi.advanceTimersByTime(60_001);
    expect(await asked(look)).toBe("1");
    // To change something is never a page's own act.
    expect(await asked(() => api.POST("/api/v1/backups"))).toBeNull();
    page.dispatchEvent(new Event("keydown"));
    expect(await asked(look)).toBeNull();
    vi.advanceTimersByTime(30_000);
    page.dispatchEvent(new Event("pointerdown"));
    vi.advanceTimersByTime(30_001);
    expect(await asked(look)).toBeNull();
  });
});

it("a refusing status is an answer to who takes it, wherever it was asked", async () => {
  const { api, taking } = await import("../src/session/request");
  answered.mockImplementation(async () => problem(503));
  const { error } = await api.GET("/readyz", { fetch: taking(503) });
  expect(error).toMatchObject({ status: 503 });
  await expect(api.GET("/readyz")).rejects.toMatchObject({ status: 503 });
});
