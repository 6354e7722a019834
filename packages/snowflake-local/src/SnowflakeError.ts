/**
 * Snowflake's errors as the driver sees them: a code, an SQLSTATE and a message.
 *
 * The constructors below are the only place that knows Snowflake's codes. The driver sends a query again when an error carries no SQLSTATE, so there is
 * no error without one.
 */
import * as Schema from "effect/Schema"

export class SnowflakeError extends Schema.TaggedError<SnowflakeError>()(
  "@etl-stream/snowflake-local/SnowflakeError",
  { code: Schema.String, sqlState: Schema.String, message: Schema.String }
) {}

const make = (code: string, sqlState: string) => (message: string): SnowflakeError =>
  new SnowflakeError({ code, sqlState, message })

const compilation = (code: string, sqlState: string) => (message: string): SnowflakeError =>
  new SnowflakeError({ code, sqlState, message: `SQL compilation error:\n${message}` })

/** 001003: the text is not SQL that Snowflake knows. */
export const syntax = compilation("001003", "42000")
/** 000002: valid in Snowflake, but this server doesn't do it; said aloud instead of being done wrongly. */
export const unsupported = (feature: string): SnowflakeError =>
  make("000002", "0A000")(`Unsupported feature '${feature}' (snowflake-local).`)
/** 002003: a table, view, stage or pipe that isn't there, or that one may not see. */
export const objectNotFound = (kind: string, name: string): SnowflakeError =>
  compilation("002003", "42S02")(`${kind} '${name}' does not exist or not authorized.`)
/** 002003: a schema or database that isn't there. */
export const containerNotFound = (kind: string, name: string): SnowflakeError =>
  compilation("002003", "02000")(`${kind} '${name}' does not exist or not authorized.`)
/** 091901: a stream whose table is gone. */
export const streamWithoutTable = (table: string, stream: string): SnowflakeError =>
  make("091901", "02000")(`Base table '${table}' dropped, cannot read from stream '${stream}'.`)
/** 003001: the role may see it, but not do that. */
export const insufficientPrivileges = (kind: string, name: string): SnowflakeError =>
  make("003001", "42501")(`SQL access control error:\nInsufficient privileges to operate on ${kind} '${name}'`)
/** 091089: the owner of a task may not run tasks. */
export const mayNotRunTasks = (privilege: string): SnowflakeError =>
  make("091089", "23001")(`Cannot execute task , ${privilege} privilege must be granted to owner role`)
/** 090063 and 090064: a warehouse that runs or stands still already. */
export const warehouseState = (code: string, name: string, change: string): SnowflakeError =>
  make(code, "57014")(`Invalid state. Warehouse '${name}' cannot be ${change}.`)
/** 090240: SELECT … INTO of no row, or of several. */
export const selectInto = (rows: number): SnowflakeError =>
  make("090240", "P0000")(`A SELECT INTO statement expects exactly 1 returned row, but got ${rows}.`)
/** 002043: the object of USE, SHOW or DROP isn't there. */
export const useNotFound = (): SnowflakeError =>
  compilation("002043", "02000")("Object does not exist, or operation cannot be performed.")
/** 002002: there is such an object already. */
export const alreadyExists = (name: string): SnowflakeError =>
  compilation("002002", "42710")(`Object '${name}' already exists.`)
/** 000904: no such column. */
export const invalidIdentifier = (name: string): SnowflakeError =>
  make("000904", "42000")(`SQL compilation error: error line 1 at position 0\ninvalid identifier '${name}'`)
/** 002025: a column is named twice. */
export const duplicateColumn = (name: string): SnowflakeError =>
  compilation("002025", "42S21")(`duplicate column name '${name}'`)
/** 002028: a column name that two tables have. */
export const ambiguousColumn = (name: string): SnowflakeError =>
  compilation("002028", "42601")(`ambiguous column name '${name}'`)
/** 002140: no such function. */
export const unknownFunction = (name: string): SnowflakeError =>
  compilation("002140", "42601")(`Unknown function ${name}`)
/** 001044: a function was given types that it doesn't take. */
export const invalidArguments = (message: string): SnowflakeError => compilation("001044", "42P13")(message)
/** 002040: no such data type. */
export const unsupportedType = (name: string): SnowflakeError =>
  compilation("002040", "42601")(`Unsupported data type '${name}'.`)
/** 002023: a value's type can't be stored in the column's. */
export const typeMismatch = (expected: string, actual: string): SnowflakeError =>
  compilation("002023", "22000")(
    `Expression type does not match column data type, expecting ${expected} but got ${actual}`
  )
/** 002057 and 001038: as many values as columns, please. */
export const valueCount = (expected: number, actual: number): SnowflakeError =>
  compilation("002057", "42601")(`Insert value list does not match column list expecting ${expected} but got ${actual}`)
/** 002014: VALUES takes constants and simple functions only. */
export const invalidValuesExpression = (name: string): SnowflakeError =>
  compilation("002014", "22000")(`Invalid expression [${name}] in VALUES clause`)
/** 090105: an unqualified name, and no database to look in. */
export const noCurrentDatabase = (): SnowflakeError =>
  make("090105", "22000")(
    "Cannot perform this operation. This session does not have a current database. Call 'USE DATABASE', or use a qualified name."
  )
/** 090106: an unqualified name, and no schema to look in. */
export const noCurrentSchema = (): SnowflakeError =>
  make("090106", "22000")(
    "Cannot perform this operation. This session does not have a current schema. Call 'USE SCHEMA', or use a qualified name."
  )
/** 000606: this statement needs a warehouse and the session has none. */
export const noWarehouse = (): SnowflakeError =>
  make("000606", "57P03")(
    "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' command."
  )
/** 100072: NULL for a NOT NULL column. */
export const nullInNonNullable = (column: string): SnowflakeError =>
  make("100072", "22000")(`NULL result in a non-nullable column\n${column}`)
/** 100078: a string longer than its column. */
export const stringTooLong = (length: string): SnowflakeError =>
  make("100078", "22000")(`String is too long and would be truncated: the column holds ${length} characters`)
/** 100145: bytes longer than their column. */
export const binaryTooLong = (length: string): SnowflakeError =>
  make("100145", "22000")(`Binary value is too long and would be truncated: the column holds ${length} bytes`)
/** 100090: a row to be merged matches more than one source row. */
export const nondeterministicMerge = (): SnowflakeError =>
  make("100090", "42P18")("Duplicate row detected during DML action")
/** 100040/100035/...: a value that isn't of its type. */
export const notRecognized = (code: string, kind: string, value: string): SnowflakeError =>
  make(code, code === "100035" || code === "100040" || code === "100108" ? "22007" : "22018")(
    `${kind} value '${value}' is not recognized`
  )
/** 100132: a number beyond its type. */
export const outOfRange = (message: string): SnowflakeError => make("100132", "22003")(message)
/** 100051: division by zero. */
export const divisionByZero = (): SnowflakeError => make("100051", "22012")("Division by zero")
/** 100069: text that isn't JSON. */
export const invalidJson = (): SnowflakeError => make("100069", "22P02")("Error parsing JSON")
/** 100115: text that isn't hexadecimal or base 64. */
export const invalidBinary = (): SnowflakeError =>
  make("100115", "22000")("The following string is not a legal binary value")
/** 253006: a staged file isn't there. */
export const fileNotFound = (file: string): SnowflakeError =>
  make("091016", "02000")(`Remote file '${file}' was not found.`)
/** 000604: the client cancelled the query. */
export const cancelled = (): SnowflakeError => make("000604", "57014")("SQL execution canceled")
/** 000625: another transaction holds the lock for too long. */
export const lockTimeout = (): SnowflakeError =>
  make("000625", "57014")("Statement has locked table in another transaction, and timed out waiting for it.")
/** 000630: statement timeout. */
export const statementTimeout = (seconds: number): SnowflakeError =>
  make("000630", "57014")(
    `Statement reached its statement or warehouse timeout of ${seconds} second(s) and was canceled.`
  )
/** 090232: the transaction can't go on (see Session). */
export const transactionBroken = (): SnowflakeError =>
  make("090232", "25000")(
    "An earlier statement of this transaction failed after others had written, and snowflake-local can't keep what they wrote: ROLLBACK and begin again."
  )
/** 000008 and anything unforeseen, never silent. */
export const internal = (message: string): SnowflakeError => make("300002", "XX000")(`Internal error: ${message}`)
/** A result of the given query that isn't there (any more). */
export const resultNotFound = (): SnowflakeError =>
  make("000709", "02000")("Statement does not exist or its result has expired.")
/** 001008 etc.: a value or option that's not allowed. */
export const invalidOption = (message: string): SnowflakeError => compilation("001008", "22023")(message)
/** 000938/000939: a function was given too few or too many arguments. */
export const argumentCount = (message: string): SnowflakeError => compilation("000938", "22023")(message)
/** 000607: two transactions wait for each other. */
export const deadlock = (): SnowflakeError =>
  make("000607", "57014")("Your statement was aborted because this caused a deadlock. Roll back and try again.")
/** 001000/001001: a `?` or `:1` without a value. */
export const unboundVariable = (name: string): SnowflakeError =>
  compilation("002049", "42601")(`Bind variable :${name} not set.`)
/** 002211: `$NAME` without SET. */
export const unsetVariable = (name: string): SnowflakeError =>
  compilation("002211", "02000")(`Session variable '$${name}' does not exist`)
/** 001430: ADD COLUMN of one that is there. */
export const columnExists = (name: string): SnowflakeError =>
  compilation("001430", "01000")(`column '${name}' already exists`)
/** 000904 of ALTER TABLE: no such column. */
export const columnMissing = (name: string): SnowflakeError =>
  compilation("000904", "42000")(`column '${name}' does not exist`)
/** 002108: ADD COLUMN … NOT NULL without a default, on a table with rows. */
export const notNullOnFilledTable = (name: string): SnowflakeError =>
  compilation("002108", "22000")(
    `Non-nullable column '${name}' cannot be added to non-empty table unless it has a non-null default value.`
  )
/** 002108: a type change that Snowflake doesn't make in place. */
export const cannotChangeType = (name: string, from: string, to: string): SnowflakeError =>
  compilation("002108", "22000")(`cannot change column ${name} from type ${from} to ${to}`)

// Login and sessions ------------------------------------------------------------------------------------------------------------------------

/** 390100: wrong user or password. */
export const wrongPassword = (): SnowflakeError =>
  make("390100", "08001")("Incorrect username or password was specified.")
/** 390144: a key-pair token that proves nothing. */
export const invalidToken = (message: string): SnowflakeError => make("390144", "08001")(`${message}.`)
/** 390303: a programmatic access or OAuth token that isn't known. */
export const invalidOauthToken = (): SnowflakeError => make("390303", "08001")("Invalid OAuth access token.")
/** 390190: no such way to log in. */
export const unknownAuthenticator = (name: string): SnowflakeError =>
  make("390190", "08001")(`There was an error related to the authenticator '${name}'.`)
/** 390189: the role isn't granted to the user, or isn't there. */
export const roleNotGranted = (role: string): SnowflakeError =>
  make("390189", "08001")(
    `Role '${role}' specified in the connect string is not granted to this user. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.`
  )
/** 390111: no such session (any more). */
export const sessionGone = (): SnowflakeError =>
  make("390111", "08001")("Session no longer exists.  New login required to access the service.")
/** 390112: renew it. */
export const sessionTokenExpired = (): SnowflakeError =>
  make("390112", "08001")("Your session has expired. Please renew your session.")
/** 390114: log in again. */
export const masterTokenExpired = (): SnowflakeError =>
  make("390114", "08001")("Authentication token has expired.  The user must authenticate again.")
/** 000008: more or fewer statements in the text than announced. */
export const statementCount = (actual: number, desired: number): SnowflakeError =>
  make("000008", "0A000")(`Actual statement count ${actual} did not match the desired statement count ${desired}.`)
/** 000002 of the front door: a body that isn't what the driver sends. */
export const badRequest = (): SnowflakeError => make("390400", "08001")("The request is not understood.")
