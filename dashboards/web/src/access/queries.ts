/** What the pages of people ask. */
import { useQuery } from "@tanstack/vue-query";
import type { components } from "@/api/schema";
import { answer, api, everything } from "@/session/request";
import type { Language } from "@/session/shapes";

type Schemas = components["schemas"];
export type User = Schemas["UserReport"];
export type Invited = Schemas["Invited"];
export type RoleRow = Schemas["RoleReport"];
export type Organization = Schemas["OrganizationReport"];
export type Session = Schemas["SessionReport"];
export type MachineToken = Schemas["ApiTokenReport"];

export const LEVELS = ["province", "city", "district", "department", "unit"] as const satisfies readonly Schemas["AdministrativeLevel"][];
const PAGE = 1000;

function useList<T>(key: string, page: (after: string | undefined, signal: AbortSignal) => Promise<{ items: T[]; next?: string | null }>) {
  return useQuery({ queryKey: [key], queryFn: ({ signal }) => everything((after) => page(after, signal)), shallow: true });
}

export const useUsers = () => useList("users", (after, signal) => answer(api.GET("/api/v1/users", { params: { query: { after, limit: PAGE } }, signal })));
export const useRoles = () => useList("roles", (_, signal) => answer(api.GET("/api/v1/roles", { signal })));
export const useOrganizations = () => useList("organizations", (after, signal) => answer(api.GET("/api/v1/organizations", { params: { query: { after, limit: PAGE } }, signal })));
export const useSessions = () => useList("sessions", (after, signal) => answer(api.GET("/api/v1/sessions", { params: { query: { after, limit: PAGE } }, signal })));
export const useOwnSessions = () => useList("own-sessions", (_, signal) => answer(api.GET("/api/v1/account/sessions", { signal })));
export const useTokens = () => useList("tokens", (after, signal) => answer(api.GET("/api/v1/tokens", { params: { query: { after, limit: PAGE } }, signal })));

const at = (id: string) => ({ path: { id } });
export const createUser = (body: Schemas["UserRequest"]) => answer(api.POST("/api/v1/users", { body }));
export const changeUser = (id: string, body: Schemas["UserPatch"]) => answer(api.PATCH("/api/v1/users/{id}", { params: at(id), body }));
export const inviteUser = (id: string) => answer(api.POST("/api/v1/users/{id}/invitation", { params: at(id) }));
export const createOrganization = (body: Schemas["OrganizationRequest"]) => answer(api.POST("/api/v1/organizations", { body }));
export const changeOrganization = (id: string, body: Schemas["OrganizationPatch"]) => answer(api.PATCH("/api/v1/organizations/{id}", { params: at(id), body }));
export const createToken = (body: Schemas["ApiTokenRequest"]) => answer(api.POST("/api/v1/tokens", { body }));
export const revokeToken = (id: string) => answer(api.DELETE("/api/v1/tokens/{id}", { params: at(id) }));
export const endSession = (id: string) => answer(api.DELETE("/api/v1/sessions/{id}", { params: at(id) }));
export const endOwnSession = (id: string) => answer(api.DELETE("/api/v1/account/sessions/{id}", { params: at(id) }));
export const changePassword = (body: Schemas["PasswordChange"]) => answer(api.PUT("/api/v1/account/password", { body }));
export const changeLanguage = (language: Language) => answer(api.PATCH("/api/v1/account", { body: { language } }));
