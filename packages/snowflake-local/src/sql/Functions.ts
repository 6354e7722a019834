/**
 * Snowflake's functions, each with the DuckDB expression that does the same.
 *
 * The table is closed: what isn't in it is an unknown function, as in Snowflake, even where DuckDB has one of that name. Each entry tells how many
 * arguments the function takes.
 */
import * as ConversionFunctions from "./ConversionFunctions.ts"
import * as DateFunctions from "./DateFunctions.ts"
import type { FunctionTable } from "./FunctionBuilders.ts"
import * as RowFunctions from "./RowFunctions.ts"
import * as SemiStructuredFunctions from "./SemiStructuredFunctions.ts"
import * as TextFunctions from "./TextFunctions.ts"

/** A window function that reads a frame: Snowflake's default frame is the whole partition, DuckDB's ends at the current row. */
export const readsWholePartition = new Set(["FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"])

/** Functions that take DISTINCT and may be used as aggregates. */
export const aggregates = new Set([
  "COUNT",
  "SUM",
  "AVG",
  "MIN",
  "MAX",
  "MEDIAN",
  "STDDEV",
  "STDDEV_SAMP",
  "STDDEV_POP",
  "VARIANCE",
  "VAR_SAMP",
  "VAR_POP",
  "ANY_VALUE",
  "COUNT_IF",
  "LISTAGG",
  "ARRAY_AGG",
  "BOOLAND_AGG",
  "BOOLOR_AGG",
  "BITAND_AGG",
  "BITOR_AGG",
  "BITXOR_AGG",
  "MAX_BY",
  "MIN_BY",
  "APPROX_COUNT_DISTINCT",
  "MODE",
  "OBJECT_AGG"
])

/** Functions that Snowflake doesn't allow in VALUES. */
export const notInValues = new Set([
  "PARSE_JSON",
  "TRY_PARSE_JSON",
  "TO_VARIANT",
  "TO_ARRAY",
  "TO_OBJECT",
  "ARRAY_CONSTRUCT",
  "OBJECT_CONSTRUCT",
  "OBJECT_CONSTRUCT_KEEP_NULL"
])

export const functions: FunctionTable = {
  ...RowFunctions.functions,
  ...TextFunctions.functions,
  ...ConversionFunctions.functions,
  ...SemiStructuredFunctions.functions,
  ...DateFunctions.functions
}
