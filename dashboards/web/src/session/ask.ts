/** Routes that the document does not have yet: their shapes are written by hand where they are used. */
import { fetchOwn } from "./request";

export async function ask<T>(method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE", path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal: signal ?? null };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const response = await fetchOwn(new Request(new URL(path, location.origin), init));
  return (response.status === 204 ? undefined : await response.json()) as T;
}
