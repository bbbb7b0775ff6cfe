/** What the pages of people ask. */
import { useQuery, useQueryClient } from "@tanstack/vue-query";
import type { Language, Level, Role } from "@/session/shapes";
import { ask } from "@/session/ask";

export interface User {
  readonly id: string;
  readonly name: string;
  readonly display_name: string;
  readonly organization: string;
  readonly organization_name: string;
  readonly roles: Role[];
  readonly disabled: boolean;
  readonly has_password: boolean;
  readonly last_login_ms: number | null;
  readonly created_ms: number;
}
export interface Invitation {
  readonly url: string;
  readonly expires_ms: number;
}
export interface Invited {
  readonly user: User;
  readonly invitation: Invitation;
}
export interface UserChange {
  readonly name?: string;
  readonly display_name?: string;
  readonly organization?: string;
  readonly roles?: Role[];
  readonly disabled?: boolean;
}
export interface RoleRow {
  readonly role: Role;
  readonly exclusive: boolean;
  readonly capabilities: Record<string, Level>;
}
export const LEVELS = ["province", "city", "district", "department", "unit"] as const;
export interface Organization {
  readonly id: string;
  readonly name: string;
  readonly level: (typeof LEVELS)[number];
  readonly parent: string | null;
  readonly created_ms: number;
}
export interface Session {
  readonly id: string;
  readonly user: string;
  readonly user_name: string;
  readonly created_ms: number;
  readonly last_used_ms: number;
  readonly expires_ms: number;
  readonly address?: string | null;
  readonly agent: string;
  readonly current: boolean;
}
export interface MachineToken {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly organization: string;
  readonly created_ms: number;
  readonly expires_ms?: number | null;
  readonly last_used_ms?: number | null;
  readonly revoked_ms?: number | null;
  readonly created_by?: string | null;
}
interface Items<T> {
  readonly items: T[];
  readonly next?: string | null;
}

async function list<T>(path: string, signal: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  let after: string | null | undefined;
  do {
    const page: Items<T> = await ask("GET", `${path}?limit=1000${after ? `&after=${encodeURIComponent(after)}` : ""}`, undefined, signal);
    items.push(...page.items);
    after = page.next;
  } while (after);
  return items;
}

function useList<T>(key: string, path: string) {
  return useQuery({ queryKey: [key], queryFn: ({ signal }) => list<T>(path, signal), shallow: true });
}

export const useUsers = () => useList<User>("users", "/api/v1/users");
export const useRoles = () => useList<RoleRow>("roles", "/api/v1/roles");
export const useOrganizations = () => useList<Organization>("organizations", "/api/v1/organizations");
export const useSessions = () => useList<Session>("sessions", "/api/v1/sessions");
export const useOwnSessions = () => useList<Session>("own-sessions", "/api/v1/account/sessions");
export const useTokens = () => useList<MachineToken>("tokens", "/api/v1/tokens");

export const createUser = (user: UserChange) => ask<Invited>("POST", "/api/v1/users", user);
export const changeUser = (id: string, change: UserChange) => ask<User>("PATCH", `/api/v1/users/${id}`, change);
export const inviteUser = (id: string) => ask<Invited>("POST", `/api/v1/users/${id}/invitation`);
export const saveOrganization = (id: string | null, body: { name: string; level: string; parent: string | null }) =>
  id ? ask<Organization>("PATCH", `/api/v1/organizations/${id}`, body) : ask<Organization>("POST", "/api/v1/organizations", body);
export const createToken = (body: { name: string; role: Role; expires_ms?: number }) => ask<{ token: MachineToken; secret: string }>("POST", "/api/v1/tokens", body);
export const revokeToken = (id: string) => ask<void>("DELETE", `/api/v1/tokens/${id}`);
export const endSession = (id: string) => ask<void>("DELETE", `/api/v1/sessions/${id}`);
export const endOwnSession = (id: string) => ask<void>("DELETE", `/api/v1/account/sessions/${id}`);
export const changePassword = (body: { current: string; new: string }) => ask<void>("PUT", "/api/v1/account/password", body);
export const changeLanguage = (language: Language) => ask<void>("PATCH", "/api/v1/account", { language });

/** Asks a list anew. */
export function useAnew() {
  const cache = useQueryClient();
  return (...keys: string[]) => Promise.all(keys.map((key) => cache.invalidateQueries({ queryKey: [key] })));
}
