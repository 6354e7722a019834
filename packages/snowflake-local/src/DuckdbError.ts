/**
 * What DuckDB says when it refuses a statement, as Snowflake's error.
 *
 * DuckDB reports by text only, so this is a table of its messages. What isn't in the table becomes an internal error, aloud.
 */
import * as SnowflakeError from "./SnowflakeError.ts"
import * as Identifier from "./sql/Identifier.ts"
import type { StorageError } from "./Storage.ts"

type Make = (match: RegExpExecArray) => SnowflakeError.SnowflakeError

const identifier = (match: RegExpExecArray): SnowflakeError.SnowflakeError =>
  SnowflakeError.invalidIdentifier(
    (match[1] ?? "").split(".").map((part) => Identifier.print(Identifier.decode(part))).join(".")
  )

const kinds: ReadonlyArray<readonly [RegExp, string, string]> = [
  [/^(DECIMAL|INT|UINT|BIGINT|HUGEINT|DOUBLE|FLOAT)/, "100038", "Numeric"],
  [/^BOOL/, "100037", "Boolean"],
  [/^TIMESTAMP/, "100035", "Timestamp"],
  [/^DATE/, "100040", "Date"],
  [/^TIME/, "100108", "Time"]
]

const notRecognized = (type: string, value: string): SnowflakeError.SnowflakeError => {
  const found = kinds.find(([pattern]) => pattern.test(type))
  return SnowflakeError.notRecognized(found?.[1] ?? "100038", found?.[2] ?? "Numeric", value)
}

const messages: ReadonlyArray<readonly [RegExp, Make]> = [
  [
    /SF\|(\w+)\|(\w+)\|([^\n]*)/,
    ([, code = "", sqlState = "", message = ""]) => new SnowflakeError.SnowflakeError({ code, sqlState, message })
  ],
  // Of something that the role doesn't see.
  [
    /(?:Table|View|Schema) with name "?([^"\n]+?)"? already exists/,
    ([, name = ""]) => SnowflakeError.alreadyExists(Identifier.print(Identifier.decode(name)))
  ],
  [/INTERRUPT/, () => SnowflakeError.cancelled()],
  [/Referenced (?:update )?column "([^"]+)" (?:was )?not found/, identifier],
  [/Referenced (?:update )?column ([^" ]\S*) not found/, identifier],
  [/does not have a column named "([^"]+)"/, identifier],
  [/[Cc]olumn "([^"]+)" (?:does not exist|not found)/, identifier],
  [/Could not find key "([^"]+)"/, identifier],
  [/Referenced table "([^"]+)" not found/, identifier],
  [/column "([^"]+)" must appear in the GROUP BY clause/, ([, name = ""]) =>
    new SnowflakeError.SnowflakeError({
      code: "000979",
      sqlState: "42601",
      message: `SQL compilation error:\n[${
        Identifier.print(Identifier.decode(name))
      }] is not a valid group by expression`
    })],
  [
    /Ambiguous reference to column name "([^"]+)"/,
    ([, name = ""]) => SnowflakeError.ambiguousColumn(Identifier.decode(name))
  ],
  [
    /NOT NULL constraint failed: [^\n]*?([^.\n]+)$/m,
    ([, name = ""]) => SnowflakeError.nullInNonNullable(Identifier.decode(name.trim()))
  ],
  [/Could not convert string ['"]([\s\S]*?)['"] to (\w+)/, ([, value = "", type = ""]) => notRecognized(type, value)],
  [
    /Could not cast value (\S+) to (\w+\([\d,]*\)|\w+)/,
    ([, value = "", type = ""]) =>
      SnowflakeError.outOfRange(`Number out of representable range: type ${type}, value ${value}`)
  ],
  [
    /Casting value "([^"]*)" to type (\w+\([\d,]*\)|\w+) failed/,
    ([, value = "", type = ""]) =>
      SnowflakeError.outOfRange(`Number out of representable range: type ${type}, value ${value}`)
  ],
  [
    /Type \w+ with value (\S+) can't be cast because the value is out of range for the destination type (\w+)/,
    ([, value = "", type = ""]) =>
      SnowflakeError.outOfRange(`Number out of representable range: type ${type}, value ${value}`)
  ],
  [/Out of Range Error: Overflow|Overflow in/, () => SnowflakeError.outOfRange("Number out of representable range")],
  [
    /(date|time|timestamp) field value out of range: "([^"]*)"|invalid (date|time|timestamp) field format: "([^"]*)"/,
    (match) => notRecognized((match[1] ?? match[3] ?? "").toUpperCase(), match[2] ?? match[4] ?? "")
  ],
  [/Malformed JSON/, () => SnowflakeError.invalidJson()],
  [
    /Failed to cast value to numerical|Failed to cast value/,
    () =>
      new SnowflakeError.SnowflakeError({ code: "100071", sqlState: "22000", message: "Failed to cast variant value" })
  ],
  [/Division by zero/i, () => SnowflakeError.divisionByZero()],
  [
    /Table with name (\S+) does not exist/,
    ([, name = ""]) => SnowflakeError.objectNotFound("Object", Identifier.decode(name))
  ],
  [
    /Parser Error: syntax error[^\n]*/,
    ([message = ""]) => SnowflakeError.syntax(message.replace("Parser Error: ", ""))
  ],
  [/Parser Error: ([^\n]*)/, ([, message = ""]) => SnowflakeError.syntax(message)],
  [/Set operations can only apply to expressions with the same number/, () =>
    new SnowflakeError.SnowflakeError({
      code: "001789",
      sqlState: "42601",
      message: "SQL compilation error:\ninvalid number of result columns for set operator"
    })],
  // What is left of the binder's complaints is about types and arguments.
  [/Binder Error: ([^\n]*)/, ([, message = ""]) => SnowflakeError.invalidArguments(message)],
  [
    /Conversion Error: ([^\n]*)/,
    ([, message = ""]) => new SnowflakeError.SnowflakeError({ code: "100038", sqlState: "22018", message })
  ]
]

/** The Snowflake error for DuckDB's message. */
export const fromMessage = (message: string): SnowflakeError.SnowflakeError => {
  for (const [pattern, make] of messages) {
    const match = pattern.exec(message)
    if (match !== null) return make(match)
  }
  return SnowflakeError.internal(message.split("\n")[0] ?? "")
}

export const from = (error: StorageError): SnowflakeError.SnowflakeError =>
  error.reason === "Conflict" ? SnowflakeError.lockTimeout() : fromMessage(error.message)
