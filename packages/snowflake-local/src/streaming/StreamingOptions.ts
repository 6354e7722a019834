/**
 * The limits and times of the streaming endpoints, which tests tighten or loosen.
 */

/** How the endpoints behave; the defaults are Snowflake's published limits. */
export interface Options {
  /** What `/v2/streaming/hostname` answers. Default: the host that the request came to. */
  readonly ingestHost?: string | undefined
  /** Lifetime of scoped tokens. Default 10 minutes. */
  readonly tokenTtlMillis?: number | undefined
  /** From the first buffered row of a channel to its commit; uniformly between the two. Default 200 to 1000. */
  readonly commitDelayMillis?: { readonly min: number; readonly max: number } | undefined
  /** Bytes of one request's body as sent. Default 4,000,000. */
  readonly maxRequestBytes?: number | undefined
  /** Bytes of one request's rows uncompressed. Default 64 MiB. */
  readonly maxUncompressedBytes?: number | undefined
  /** Per channel. Default 10. */
  readonly requestsPerSecond?: number | undefined
  /** Per channel, uncompressed. Default 20,000,000. */
  readonly bytesPerSecond?: number | undefined
  /** Bytes that a channel may have uncommitted; an append beyond is refused with 429. Default 512 MiB. */
  readonly maxBufferedBytes?: number | undefined
}

/** Options with their defaults filled in. */
export type Settings =
  & { readonly [K in Exclude<keyof Options, "ingestHost">]-?: Exclude<Options[K], undefined> }
  & Pick<Options, "ingestHost">

/** Fills in the defaults. */
export const settings = (options: Options): Settings => ({
  ingestHost: options.ingestHost,
  tokenTtlMillis: options.tokenTtlMillis ?? 600_000,
  commitDelayMillis: options.commitDelayMillis ?? { min: 200, max: 1000 },
  maxRequestBytes: options.maxRequestBytes ?? 4_000_000,
  maxUncompressedBytes: options.maxUncompressedBytes ?? 64 << 20,
  requestsPerSecond: options.requestsPerSecond ?? 10,
  bytesPerSecond: options.bytesPerSecond ?? 20_000_000,
  maxBufferedBytes: options.maxBufferedBytes ?? 512 << 20
})
