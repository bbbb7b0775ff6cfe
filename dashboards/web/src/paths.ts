/** Every path of the dashboard, once. No page writes a URL; a snapshot test holds the list. */
export const paths = {
  login: () => "/login",
  invitation: () => "/invitation",
  overview: () => "/overview",
  hosts: () => "/hosts",
  host: (id: string) => `/hosts/${encodeURIComponent(id)}`,
  agents: () => "/agents",
  rollouts: () => "/rollouts",
  rollout: (id: string) => `/rollouts/${encodeURIComponent(id)}`,
  cloud: () => "/cloud",
  vms: () => "/vms",
  vm: (id: string) => `/vms/${encodeURIComponent(id)}`,
  ledger: () => "/ledger",
  review: () => "/review",
  providers: () => "/providers",
  users: () => "/users",
  roles: () => "/roles",
  organizations: () => "/organizations",
  tokens: () => "/tokens",
  sessions: () => "/sessions",
  audit: () => "/audit",
  settings: () => "/settings",
  account: () => "/account",
} as const;

export type PathName = keyof typeof paths;
