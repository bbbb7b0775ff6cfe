/** What the page of the settings asks. */
import { useQuery } from "@tanstack/vue-query";
import type { components } from "@/api/schema";
import { answer, api, taking } from "@/session/request";

type Schemas = components["schemas"];
export type Check = Schemas["Check"];
export type Health = Schemas["HealthReport"];
export type Retention = Schemas["RetentionReport"];
export type Kept = Schemas["KeptReport"];
export type Schedule = Schemas["ScheduleReport"];
export type Backup = Schemas["BackupReport"];
/** What is kept for a time, in the order of the screen. */
export const KEPT = ["raw", "slot", "hour", "audit"] as const;

export const useSettings = () => useQuery({ queryKey: ["settings"], queryFn: ({ signal }) => answer(api.GET("/api/v1/settings", { signal })), shallow: true });
export const useHealth = () => useQuery({ queryKey: ["health"], queryFn: ({ signal }) => answer(api.GET("/api/v1/health", { signal })), refetchInterval: 15_000, shallow: true });
export const useRetention = () => useQuery({ queryKey: ["retention"], queryFn: ({ signal }) => answer(api.GET("/api/v1/settings/retention", { signal })), shallow: true });
export const useSchedule = () => useQuery({ queryKey: ["schedule"], queryFn: ({ signal }) => answer(api.GET("/api/v1/settings/backup", { signal })), shallow: true });
/** Quick while one is made. */
export const useBackups = () =>
  useQuery({
    queryKey: ["backups"],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/backups", { signal })),
    refetchInterval: ({ state }) => (state.data?.making ? 1_000 : 30_000),
    shallow: true,
  });

export const setRetention = (body: Schemas["RetentionRequest"]) => answer(api.PUT("/api/v1/settings/retention", { body }));
export const setSchedule = (body: Schemas["ScheduleRequest"]) => answer(api.PUT("/api/v1/settings/backup", { body }));
export const createBackup = () => answer(api.POST("/api/v1/backups"));
export const deleteBackup = (name: string) => answer(api.DELETE("/api/v1/backups/{name}", { params: { path: { name } } }));

/** Ready or not, with each check. */
export const useReady = () =>
  useQuery({
    queryKey: ["ready"],
    queryFn: async ({ signal }) => {
      // Not ready is an answer, with its reasons.
      const { data, error } = await api.GET("/readyz", { signal, fetch: taking(503) });
      return data ?? error;
    },
    refetchInterval: 15_000,
  });
