/** The client of the API: typed by its document, in the person's language, refusals as one error. */
import createClient from "openapi-fetch";
import type { paths } from "@/api/schema";
import { isAway } from "./presence";

/** A refusal of the service (RFC 9457), or that it could not be reached. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string | null,
    readonly fields: readonly { field: string; message: string }[] = [],
    readonly requestId: string | null = null,
  ) {
    super(detail ?? title);
  }
}

/** Whether the service says that there is no such thing for this person: what was shown of it is void. */
export function isGone(error: unknown): boolean {
  return error instanceof Refusal && (error.status === 404 || error.status === 403);
}

/** What the session puts into each request. */
export const context = {
  csrf: "",
  language: "zh-CN",
  /** Who this is, asked for before anything else; taken once. */
  first: null as Promise<Response> | null,
  /** Called when the service knows no session any more. */
  ended: () => {},
};

const SAFE = ["GET", "HEAD"];

/** A request with what the session adds; it throws a refusal, unless its status is an answer to the caller. */
function send(input: Request, answers: readonly number[]): Promise<Response> {
  input.headers.set("accept-language", context.language);
  if (!SAFE.includes(input.method) && context.csrf) input.headers.set("x-csrf-token", context.csrf);
  // What nobody asked for does not count as use of the session.
  if (SAFE.includes(input.method) && isAway()) input.headers.set("x-tongtu-automatic", "1");
  return taken(input, fetch(input), answers);
}

/** What a request is answered; it throws a refusal, unless its status is an answer to the caller. */
async function taken(input: Request, asking: Promise<Response>, answers: readonly number[]): Promise<Response> {
  let response: Response;
  try {
    response = await asking;
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new Refusal(0, "unreachable", null);
  }
  if (response.ok || answers.includes(response.status)) return response;
  const said = (await response.json().catch(() => ({}))) as {
    title?: string;
    detail?: string;
    errors?: { field: string; message: string }[];
    request_id?: string;
  };
  if (response.status === 401 && !input.url.endsWith("/api/v1/session")) context.ended();
  throw new Refusal(response.status, said.title ?? response.statusText, said.detail ?? null, said.errors, said.request_id ?? null);
}

/** A request with what the session adds; it throws a refusal. */
export const fetchOwn = (input: Request) => send(input, []);
/** For who this is: what was asked for first, else as it is. */
export function fetchFirst(input: Request): Promise<Response> {
  const { first } = context;
  context.first = null;
  return taken(input, first ?? fetch(input), []);
}
/** For a call that takes a refusing status as its answer: `api.GET(path, { fetch: taking(503) })`. */
export const taking =
  (...answers: number[]) =>
  (input: Request) =>
    send(input, answers);

/** The routes of the document. */
export const api = createClient<paths>({ baseUrl: location.origin, fetch: fetchOwn });

/** What a call answered; it throws where it did not. */
export async function answer<T>(call: Promise<{ data?: T }>): Promise<T> {
  return (await call).data as T;
}

/** Items of a page of a long list. One that is shown already comes in smaller ones: each is read in one go, in which nothing moves. */
export const pageOf = (shown: unknown) => (shown === undefined ? 10_000 : 1_000);

/** Every item of a paged list. */
export async function everything<T>(page: (after: string | undefined) => Promise<{ items: T[]; next?: string | null }>): Promise<T[]> {
  const items: T[] = [];
  let after: string | undefined;
  do {
    const { items: some, next } = await page(after);
    items.push(...some);
    after = next ?? undefined;
  } while (after);
  return items;
}
