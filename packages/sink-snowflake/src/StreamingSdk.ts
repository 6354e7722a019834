/**
 * The official SDK, npm `snowpipe-streaming`, as far as it is used: found where the user installed it, and called as it is documented.
 *
 * It is no dependency of this package, which works without it. The module is looked for beside the configuration file first, and then where this
 * package is installed.
 *
 * @see https://docs.snowflake.com/en/user-guide/snowpipe-streaming/snowpipe-streaming-high-performance-getting-started
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createRequire } from "node:module"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import { failure } from "./ErrorPolicy.ts"
import { controlUrl } from "./IngestToken.ts"

export const packageName = "snowpipe-streaming"

export interface SdkChannel {
  /** Takes rows into the SDK's memory; throws when it doesn't. */
  readonly appendRows: (rows: ReadonlyArray<object>, startOffsetToken: string, endOffsetToken: string) => unknown
  readonly getChannelStatus: () => Promise<unknown>
  readonly close: (options: { readonly waitForFlush: boolean; readonly timeoutMs: number }) => Promise<unknown>
}

/** Serves one pipe. */
export interface SdkClient {
  readonly openChannel: (options: {
    readonly name: string
  }) => Promise<{ readonly channel: SdkChannel; readonly status: unknown }>
  readonly close: (options: { readonly waitForFlush: boolean; readonly timeoutMs: number }) => Promise<unknown>
}

export interface Sdk {
  readonly createClient: (options: {
    readonly clientName: string
    readonly dbName: string
    readonly schemaName: string
    readonly pipeName: string
    readonly properties: Readonly<Record<string, string>>
  }) => Promise<SdkClient>
}

const isSdk = (module: unknown): module is Sdk =>
  typeof module === "object" && module !== null && "createClient" in module && typeof module.createClient === "function"

/** The module, or undefined when it isn't installed. */
export const load = Effect.fnUntraced(
  function*(directory: string): Effect.fn.Return<Sdk | undefined, ConnectorError.ConnectorError> {
    for (const from of [pathToFileURL(join(directory, "etl-stream.cjs")).href, import.meta.url]) {
      let file: string
      try {
        file = createRequire(from).resolve(packageName)
      } catch {
        continue
      }
      const module = yield* Effect.tryPromise({
        try: (): Promise<unknown> => import(pathToFileURL(file).href),
        catch: (cause) =>
          failure(
            "Misconfigured",
            `The package ${packageName} is installed and can't be loaded`,
            "It has binaries for glibc on Linux, macOS on ARM and Windows only. Install it for this platform, or set streaming.client to rest.",
            { cause }
          )
      })
      const inner = typeof module === "object" && module !== null && "default" in module ? module.default : undefined
      if (isSdk(module)) return module
      if (isSdk(inner)) return inner
      return yield* failure(
        "Misconfigured",
        `The package ${packageName} has no createClient`,
        "Install version 1.8 or a later one, or set streaming.client to rest."
      )
    }
    return undefined
  }
)

/** The error for `streaming.client: sdk` without it. */
export const notInstalled = failure(
  "Misconfigured",
  `streaming.client is sdk, and the package ${packageName} isn't installed`,
  `Run npm install ${packageName} beside the configuration file, or set streaming.client to rest.`
)

/** How the SDK logs in. */
export const properties = (
  config: Config,
  credentials: Credentials
): Effect.Effect<Readonly<Record<string, string>>, ConnectorError.ConnectorError> => {
  const { host, port, protocol } = new URL(controlUrl(config))
  const common = {
    account: config.account,
    user: config.user,
    url: `${protocol}//${port === "" && protocol === "https:" ? `${host}:443` : host}`,
    ...(config.role === undefined ? {} : { role: config.role })
  }
  switch (credentials._tag) {
    case "KeyPair":
      return Effect.succeed({
        ...common,
        authorization_type: "JWT",
        // Without its first and last line, and in one.
        private_key: Redacted.value(credentials.keyPair.pem).replaceAll(/-----[^-]+-----|\s/g, "")
      })
    case "Token":
    case "Password":
      return Effect.succeed({
        ...common,
        authorization_type: "PAT",
        personal_access_token: Redacted.value(credentials._tag === "Token" ? credentials.token : credentials.password)
      })
    case "OAuth":
      return Effect.fail(failure(
        "Misconfigured",
        "auth.oauthToken doesn't serve the official SDK, which wants to renew tokens itself",
        "Use auth.privateKeyFile or auth.token, or set streaming.client to rest."
      ))
  }
}
