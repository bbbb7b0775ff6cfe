/** Enrolment tokens: which of them still enrol machines. */
import { expect, test } from "vitest";
import type { EnrolmentToken } from "../src/fleet/queries";
import { isLive } from "../src/fleet/states";

test("a token is live until it is used up, has ended or is revoked", () => {
  const token: EnrolmentToken = { id: "enrolment_1", organization: "org_1", created_ms: 0, expires_ms: 100, uses: 3, uses_left: 1 };
  expect(isLive(token, 99)).toBe(true);
  expect(isLive(token, 100)).toBe(false);
  expect(isLive({ ...token, uses_left: 0 }, 50)).toBe(false);
  expect(isLive({ ...token, revoked_ms: 10 }, 50)).toBe(false);
});
