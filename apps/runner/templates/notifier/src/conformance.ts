/**
 * What `@etl-stream/testkit` has to know to try the notifier against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as NotifierConformance from "@etl-stream/testkit/NotifierConformance"
import * as Effect from "effect/Effect"
import { plugin } from "./index.ts"

const token = "b0ad7c1e-not-for-logs"

export const conformance = NotifierConformance.make({
  plugin,
  start: Effect.flatMap(HttpReceiver.start, (receiver) =>
    NotifierConformance.http(receiver, {
      options: (url) => ({ url, token, timeout: "2 seconds", retryFor: "2 seconds" }),
      secrets: [token]
    })),
  patience: "10 seconds",
  valid: { url: "http://example.com" },
  refused: [
    { what: "no address", options: {}, path: "url" },
    { what: "an address that isn't HTTP", options: { url: "ftp://example.com" }, path: "url" },
    { what: "a timeout that is no duration", options: { url: "http://example.com", timeout: "soon" }, path: "timeout" }
  ]
})
