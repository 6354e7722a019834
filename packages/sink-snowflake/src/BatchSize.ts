/**
 * How many bytes of rows a channel's next request should hold.
 *
 * The size follows the compression that was achieved, so that a request stays below the limit as sent, and the time that answers take, so that they come well
 * before a request is given up. It grows at most twofold per request. After one that Snowflake refused as too large the limit itself is halved, and then
 * slowly grows again.
 */

/** 4 MB as sent, with some room. */
export const maxRequestBytes = 3_900_000
/** Requests of this size reach a channel's rate already at a few per second. */
const maxRawBytes = 8_000_000
const minRawBytes = 65_536
/** However slow the answers: their time may not depend on the size. */
const patientRawBytes = 1_000_000
/** Answers later than this make requests smaller. */
const slowMillis = 10_000

export class BatchSize {
  /** Bytes of rows to encode for the next request. */
  rawBytes = 3_500_000
  /** Most bytes of a request as sent, when it has more than one row. */
  requestBytes = maxRequestBytes

  /** A chunk was compressed. */
  compressed(rawBytes: number, bodyBytes: number): void {
    // Aim at nine tenths of the limit.
    const fitting = 0.9 * this.requestBytes * rawBytes / Math.max(bodyBytes, 1)
    this.rawBytes = Math.max(minRawBytes, Math.min(fitting, maxRawBytes, Math.max(this.rawBytes * 2, minRawBytes)))
  }

  /** A request was answered, after so long. */
  answered(rawBytes: number, millis: number): void {
    this.requestBytes = Math.min(maxRequestBytes, Math.ceil(this.requestBytes * 1.1))
    if (millis > slowMillis) {
      const timely = Math.max(patientRawBytes, rawBytes * slowMillis / millis)
      this.rawBytes = Math.min(this.rawBytes, timely)
    }
  }

  /** A request of so many bytes was refused as too large. */
  refused(bodyBytes: number): void {
    this.requestBytes = Math.max(1, Math.min(this.requestBytes, bodyBytes) >> 1)
  }
}
