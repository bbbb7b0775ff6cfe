/** Who is logged in, as the service tells it. */
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Me = Schemas["Me"];
export type Language = Schemas["Language"];
export type Level = Schemas["Level"];
export type Role = Schemas["Role"];

/** The areas of the table of duties. */
export const CAPABILITIES = ["settings", "access", "audit", "agents", "measurements", "migration", "health", "account"] as const;
export type Capability = (typeof CAPABILITIES)[number];
/** The duties of people; `reader` is for machines alone. */
export const DUTIES = ["system_administrator", "security_administrator", "auditor", "operator", "migration_manager", "department_user"] as const satisfies readonly Role[];
