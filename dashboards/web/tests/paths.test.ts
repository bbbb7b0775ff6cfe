/** The list of paths, as links to it exist. */
import { expect, test } from "vitest";
import { paths } from "../src/paths";

test("a path stays what it is", () => {
  const all = Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, path("a/b")]));
  expect(all).toMatchInlineSnapshot(`
    {
      "account": "/account",
      "agents": "/agents",
      "audit": "/audit",
      "cloud": "/cloud",
      "host": "/hosts/a%2Fb",
      "hosts": "/hosts",
      "invitation": "/invitation",
      "ledger": "/ledger",
      "login": "/login",
      "organizations": "/organizations",
      "overview": "/overview",
      "providers": "/providers",
      "review": "/review",
      "roles": "/roles",
      "rollout": "/rollouts/a%2Fb",
      "rollouts": "/rollouts",
      "sessions": "/sessions",
      "settings": "/settings",
      "tokens": "/tokens",
      "users": "/users",
      "vm": "/vms/a%2Fb",
      "vms": "/vms",
    }
  `);
});
