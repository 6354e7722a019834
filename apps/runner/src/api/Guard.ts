/**
 * Who may ask: for every route, before anything else is done.
 *
 * With a token, `Authorization: Bearer` must carry it; probes and the API's description are open. On loopback the `Host` must be one of this machine, so that a page in a browser
 * can't reach the API by a name of its own (DNS rebinding); a browser's request from another site is refused in any case.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Redacted from "effect/Redacted"
import { createHash, timingSafeEqual } from "node:crypto"
import { isLoopback } from "../Loopback.ts"

export interface Options {
  readonly token: Redacted.Redacted<string> | undefined
  /** Whether the server listens on loopback only. */
  readonly loopback: boolean
  /** Further names by which it may be asked for there, such as a proxy's. */
  readonly hosts: ReadonlyArray<string>
}

/** What needs no token: probes of service managers, and what is the same everywhere. */
const open: ReadonlySet<string> = new Set(["/livez", "/readyz", "/openapi.json", "/docs"])

/** A request's body may be this large, bytes. */
export const largestBody = 1024 * 1024

/** A `Host` without its port; undefined when it isn't one. */
const nameOf = (host: string): string | undefined =>
  /^(\[[0-9a-f:.]+\]|[^:\s/@]+)(:\d{1,5})?$/i.exec(host)?.[1]?.toLowerCase()

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** Takes the same time whatever differs, and however long they are. */
const same = (given: string, expected: string): boolean => timingSafeEqual(digest(given), digest(expected))

const refuse = (status: number, title: string, code: string, detail: string, hint: string) =>
  ProblemDetails.toResponse({ type: "about:blank", status, title, code, detail, hint })

/** Why a request is refused; undefined when it isn't. */
export const refusal = (
  { hosts, loopback, token }: Options,
  { headers, url }: { readonly headers: Readonly<Record<string, string | undefined>>; readonly url: string }
): HttpServerResponse.HttpServerResponse | undefined => {
  const host = nameOf(headers["host"] ?? "")
  const isOurs = (name: string | undefined): boolean =>
    name !== undefined && (isLoopback(name) || hosts.some((known) => known.toLowerCase() === name))
  if (loopback && !isOurs(host)) {
    return refuse(
      421,
      "Misdirected request",
      "WrongHost",
      "The request's Host is not one of this server",
      "Ask for 127.0.0.1 or localhost; names of a proxy go into `http.hosts`."
    )
  }
  const { origin } = headers
  if (origin !== undefined && origin !== `http://${headers["host"]}` && origin !== `https://${headers["host"]}`) {
    return refuse(
      403,
      "Forbidden",
      "CrossSite",
      "Pages of other sites may not use this API",
      "Use a client that isn't a page, or serve the page from the same origin by a proxy."
    )
  }
  if (Number(headers["content-length"] ?? 0) > largestBody) {
    return refuse(413, "Payload too large", "TooLarge", "The request is too large", "Ask for less at a time.")
  }
  // With a query a probe tells more, such as the names of pipelines.
  if (token === undefined || open.has(url)) return undefined
  const given = /^Bearer +(\S+)$/i.exec(headers["authorization"] ?? "")?.[1]
  if (given !== undefined && same(given, Redacted.value(token))) return undefined
  return HttpServerResponse.setHeader(
    refuse(
      401,
      "Unauthorized",
      "Unauthorized",
      given === undefined ? "The request carries no token" : "The token is wrong",
      "Send `Authorization: Bearer <token>` with the token of `http.token`."
    ),
    "www-authenticate",
    "Bearer"
  )
}

export const layer = (options: Options) =>
  HttpRouter.middleware(
    (effect) =>
      Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        return refusal(options, request) ?? (yield* effect)
      }),
    { global: true }
  )
