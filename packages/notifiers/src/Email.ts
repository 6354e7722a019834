/**
 * The notifier for email, by SMTP (nodemailer).
 *
 * The connection is encrypted and the server's certificate verified unless the user says otherwise: with `starttls` a server that doesn't offer it is an error, and nothing is
 * sent in the clear. Messages are plain text; those about one alert share a reference, so that mail programs show them as one conversation.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { resolve } from "node:path"
import * as DeliveryOptions from "./DeliveryOptions.ts"
import * as RateLimit from "./RateLimit.ts"
import * as Wording from "./Wording.ts"

export const pluginName = "@etl-stream/notifiers:email"

const Address = Schema.String.check(
  Schema.isPattern(/^[^\s@<>,;:"]+@[^\s@<>,;:"]+$/u, { expected: "an address such as ops@example.com" })
)

const Sender = Schema.String.check(
  Schema.isPattern(/^(?:[^\s@<>,;:"]+@[^\s@<>,;:"]+|[^<>,;:"\r\n]* <[^\s@<>,;:"]+@[^\s@<>,;:"]+>)$/u, {
    expected: "an address such as etl@example.com or Orders ETL <etl@example.com>"
  })
)

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host)

export const Config = Schema.Struct({
  host: Schema.NonEmptyString.annotateKey({ description: "The mail server's name" }),
  port: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 }))).annotateKey({
    description: "Its port. Default: 587 with `tls: starttls`, 465 with `implicit`, 25 with `none`"
  }),
  tls: Schema.Literals(["starttls", "implicit", "none"]).pipe(
    ConfigOption.withDefault("starttls")
  ).annotateKey({
    description:
      "`starttls`: the connection must be upgraded to TLS before anything is sent; `implicit`: it is TLS from the beginning; `none`: in the clear, without a password unless the server is on this machine"
  }),
  verify: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotateKey({
    description: "Whether the server's certificate must be valid; rather name its authority in `caFile`"
  }),
  caFile: Schema.optionalKey(ConfigOption.Path).annotateKey({
    description: "PEM file of the authority that signed the server's certificate, instead of those that Node knows"
  }),
  auth: Schema.optionalKey(Schema.Struct({
    user: Schema.NonEmptyString.annotateKey({ description: "The login's name" }),
    password: Schema.RedactedFromValue(Schema.NonEmptyString).annotateKey({
      description: "Its password or application password. Give it as `${env:…}` or `${file:…}`"
    })
  })).annotateKey({ description: "Login at the mail server. Default: none" }),
  from: Sender.annotateKey({ description: "The sender, for example `Orders ETL <etl@example.com>`" }),
  to: Schema.NonEmptyArray(Address).annotateKey({ description: "The recipients' addresses" }),
  timeout: DeliveryOptions.timeout,
  retryFor: DeliveryOptions.retryFor,
  rate: DeliveryOptions.summarisedRate
}).check(
  Schema.makeFilter(({ auth, host, tls }) =>
    auth !== undefined && tls === "none" && !isLoopback(host)
      ? "expected TLS where there is a password: it would be sent in the clear"
      : undefined
  )
)
export type Config = typeof Config.Type

const ports = { starttls: 587, implicit: 465, none: 25 } as const

const longestSubject = 200
const mostLines = 100

/** Subject, text and threading of the mail for `told`. */
export const message = (told: RateLimit.Told) => {
  const [first, ...others] = told
  if (others.length > 0) {
    const line = Wording.summaryLine(told)
    return { subject: `[etl-stream] ${line}`, text: `${Wording.summaryLines(told, mostLines).join("\n")}\n` }
  }
  const facts = Wording.facts(first).map(([name, value]) => `${name}: ${value}`)
  const thread = `<${createHash("sha256").update(first.key).digest("hex").slice(0, 32)}@etl-stream>`
  return {
    subject: `[etl-stream] ${Wording.shorten(Wording.headline(first), longestSubject)}`,
    text: `${
      [Wording.oneLine(first.title), ...(first.body === "" ? [] : ["", first.body]), "", ...facts].join("\n")
    }\n`,
    references: thread,
    inReplyTo: thread
  }
}

const failure = (reason: Reason, message: string, hint: string): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint })

/** What a library's error says in its fields. Its text may quote addresses and what the server said. */
const fieldsOf = (
  cause: unknown
): { readonly code: string; readonly response: number | undefined; readonly text: string } => {
  if (!(cause instanceof Error)) return { code: "", response: undefined, text: "" }
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : ""
  const response = "responseCode" in cause && typeof cause.responseCode === "number" ? cause.responseCode : undefined
  return { code, response, text: cause.message }
}

const networkHint = "Check `host`, `port` and the network between here and the mail server."

/** What went wrong in this product's words. */
const fromCause = (cause: unknown): ConnectorError => {
  const { code, response, text } = fieldsOf(cause)
  const said = response === undefined ? "" : ` (${response})`
  if (/certificate|altnames|CERT_|SELF_SIGNED|UNABLE_TO_VERIFY/i.test(`${code} ${text}`)) {
    return failure(
      "Misconfigured",
      "The mail server's certificate can't be trusted",
      "Name the PEM file of the authority that signed it in `caFile`, and the server in `host` as its certificate does."
    )
  }
  if (code === "ETLS") {
    return failure(
      "Misconfigured",
      `The mail server doesn't upgrade the connection to TLS${said}`,
      "Use the port for submission (587) with `tls: starttls`, or 465 with `tls: implicit`."
    )
  }
  if (/wrong version number|EPROTO|packet length too long/i.test(`${code} ${text}`)) {
    return failure(
      "Misconfigured",
      "The mail server doesn't speak TLS from the beginning on this port",
      "Use `tls: starttls` with port 587, or the port for implicit TLS (465)."
    )
  }
  if (response !== undefined && response >= 400 && response < 500) {
    return failure("Throttled", `The mail server asks for patience${said}`, "It is tried again.")
  }
  if (code === "EAUTH" || response === 530 || response === 534 || response === 535) {
    return failure(
      "Unauthorized",
      `The mail server refuses the login${said}`,
      "Check `auth.user` and `auth.password`; many providers want an application password."
    )
  }
  if (code === "EENVELOPE" || response !== undefined) {
    return failure(
      "Rejected",
      `The mail server refuses the message${said}`,
      "Check `from` and `to`: whether this server may send for that sender, and whether the recipients exist."
    )
  }
  const known = /^E[A-Z]{2,30}$/.test(code) ? ` (${code})` : ""
  return failure("Unreachable", `The mail server gave no answer${known}`, networkHint)
}

/** A socket of our own, so that it is gone as soon as nobody waits for the delivery any more. */
const connect = (host: string, port: number): Effect.Effect<Net.Socket, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const socket = Net.connect({ host, port })
        // Whoever uses it has listeners of their own; without any, an error would end the process.
        socket.on("error", () => {})
        return socket
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    yield* Effect.callback<void, ConnectorError>((resume) => {
      const failed = (cause: Error) => resume(Effect.fail(fromCause(cause)))
      const connected = () => {
        socket.off("error", failed)
        resume(Effect.void)
      }
      socket.once("error", failed).once("connect", connected)
      return Effect.sync(() => socket.off("error", failed).off("connect", connected))
    })
    return socket
  })

const readAuthority = (file: string): Effect.Effect<string, ConnectorError> =>
  Effect.try({
    try: () => Fs.readFileSync(file, "utf8"),
    catch: () =>
      failure("Misconfigured", "The file that `caFile` names can't be read", "Check the path and its permissions.")
  })

export const make = Effect.fn("Email.make")(function*(config: Config, directory: string) {
  const ca = config.caFile === undefined ? undefined : yield* readAuthority(resolve(directory, config.caFile))
  // Whoever uses another notifier of this package doesn't load the library.
  const { createTransport } = yield* Effect.promise(() => import("nodemailer"))
  const port = config.port ?? ports[config.tls]
  const millis = Duration.toMillis(config.timeout)
  const attempt = (told: RateLimit.Told): Effect.Effect<void, ConnectorError> =>
    Effect.gen(function*() {
      const connection = yield* connect(config.host, port)
      const transport = createTransport({
        connection,
        host: config.host,
        port,
        secure: config.tls === "implicit",
        requireTLS: config.tls === "starttls",
        ignoreTLS: config.tls === "none",
        tls: { minVersion: "TLSv1.2", rejectUnauthorized: config.verify, ...(ca === undefined ? {} : { ca }) },
        ...(config.auth === undefined
          ? {}
          : { auth: { user: config.auth.user, pass: Redacted.value(config.auth.password) } }),
        greetingTimeout: millis,
        socketTimeout: millis,
        disableFileAccess: true,
        disableUrlAccess: true
      })
      const { rejected } = yield* Effect.tryPromise({
        try: () =>
          transport.sendMail({
            ...message(told),
            from: config.from,
            to: [...config.to],
            headers: { "Auto-Submitted": "auto-generated" }
          }),
        catch: fromCause
      })
      if (rejected.length > 0) {
        yield* Effect.logWarning("The mail server refuses some of the recipients").pipe(
          Effect.annotateLogs({ refused: rejected.length, of: config.to.length, hint: "Check the addresses in `to`." })
        )
      }
    }).pipe(
      Effect.scoped,
      Effect.timeoutOrElse({
        duration: config.timeout,
        orElse: () => Effect.fail(silent)
      })
    )
  const policy = RetryPolicy.make({ initial: "500 millis", cap: "15 seconds", within: config.retryFor })
  const silent = failure("Unreachable", "The mail server gave no answer (ETIMEDOUT)", networkHint)
  const patiently = (told: RateLimit.Told): Effect.Effect<void, ConnectorError> =>
    Effect.suspend(() => {
      let last = silent
      return attempt(told).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            last = error
          })
        ),
        Effect.retry(policy),
        // However long the wait for the next attempt is: the patience and one more attempt are the end.
        Effect.timeoutOrElse({
          duration: Duration.sum(config.retryFor, config.timeout),
          orElse: () => Effect.fail(last)
        })
      )
    })
  return yield* RateLimit.make({
    plugin: pluginName,
    rate: config.rate,
    together: true,
    send: patiently
  })
})

export const email = Plugin.notifier({
  name: pluginName,
  version: "0.1.0",
  summary: "Sends alerts by email",
  examples: [
    {
      title: "By a mail server with a login",
      options: {
        host: "smtp.example.com",
        auth: { user: "etl", password: "${env:SMTP_PASSWORD}" },
        from: "Orders ETL <etl@example.com>",
        to: ["oncall@example.com"]
      }
    }
  ],
  config: Config,
  make: (config, { directory }) => make(config, directory)
})
