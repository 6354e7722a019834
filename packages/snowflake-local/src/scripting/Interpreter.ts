/**
 * Runs blocks of Snowflake Scripting, and EXECUTE IMMEDIATE.
 *
 * Each SQL statement of a block is executed as if a client had sent it, in the same session, and is logged as a child of the statement that holds the block. SQLROWCOUNT tells how many rows the
 * last one changed; an error goes to the innermost block whose EXCEPTION part takes it.
 */
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import * as CatalogRecords from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as Session from "../Session.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor } from "../sql/Cursor.ts"
import * as Environment from "../sql/Environment.ts"
import * as Expression from "../sql/Expression.ts"
import * as Query from "../sql/Query.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"
import { statements, tokenize } from "../sql/Token.ts"
import * as Assignment from "../statement/Assignment.ts"
import type { Outcome, Run, StatementContext } from "../statement/StatementContext.ts"
import * as Statement from "../statement/StatementContext.ts"
import * as StatementLog from "../StatementLog.ts"
import type { Block, Declaration, Handler, Step } from "./Block.ts"
import * as Blocks from "./Block.ts"
import { Variables } from "./Variables.ts"

/** Executes one SQL statement. */
export type Execute = (context: StatementContext) => Run<Outcome>

/** An error on its way to a handler, with the place of its statement. */
interface Thrown {
  readonly error: SnowflakeError.SnowflakeError
  readonly kind: "STATEMENT_ERROR" | "EXPRESSION_ERROR"
  readonly at: number
}

/** How a block went on: to its end, or out of everything by RETURN. */
type Flow = "next" | { readonly value: string | null }

type Running<A> = Effect.Effect<A, Thrown>

const name = "anonymous block"

class Interpreter {
  private readonly context: StatementContext
  private readonly execute: Execute

  constructor(context: StatementContext, execute: Execute) {
    this.context = context
    this.execute = execute
  }

  /** Runs `use` as a logged statement of its own. */
  child(
    tokens: ReadonlyArray<Token>,
    variables: Variables | undefined,
    use: (child: StatementContext) => Run<Outcome>
  ): Run<Outcome> {
    const { context } = this
    const child: StatementContext = {
      ...context,
      tokens,
      queryId: randomUUID(),
      binds: variables === undefined ? context.binds : [variables.binds()],
      findings: Environment.noFindings(),
      facts: { needsWarehouse: false, wokeWarehouse: false }
    }
    return StatementLog.logged(child, textOf(context, tokens), use(child), context.queryId).pipe(
      Effect.tap(({ result }) =>
        Effect.promise(() =>
          Promise.all(result.chunks.map(({ path }) => rm(join(context.services.resultsFolder, path), { force: true })))
        )
      ),
      Effect.ensuring(Effect.sync(() => {
        Session.committed(context.session)
        context.facts.needsWarehouse ||= child.facts.needsWarehouse
        context.facts.wokeWarehouse ||= child.facts.wokeWarehouse
      }))
    )
  }

  /** The values of a query's only row, each made fit for its variable, as text. */
  private values(
    context: StatementContext,
    sql: string,
    types: ReadonlyArray<SnowflakeType>
  ): Run<ReadonlyArray<string | null>> {
    return Session.reading(
      context.session,
      Effect.gen(function*() {
        const given = yield* Statement.typesOf(context, sql)
        const casts = yield* Statement.parse(() => {
          if (given.length !== types.length) throw SnowflakeError.valueCount(types.length, given.length)
          return types.map((type, index) => {
            const from = given[index]
            if (from === undefined) throw SnowflakeError.valueCount(types.length, given.length)
            return `CAST(${Assignment.assign(CatalogRecords.column("value", type), `"c${index}"`, from)} AS VARCHAR)`
          })
        })
        const names = types.map((_, index) => `"c${index}"`).join(", ")
        const rows = yield* Statement.rows(context, `SELECT ${casts.join(", ")} FROM (${sql}) AS "values"(${names})`)
        const [row] = rows
        if (row === undefined || rows.length > 1) return yield* SnowflakeError.selectInto(rows.length)
        return row.map((value) => value === null || value === undefined ? null : String(value))
      })
    )
  }

  /** DuckDB SQL of an expression of the language. */
  private expression(tokens: ReadonlyArray<Token>, variables: Variables): Run<string> {
    const context = { ...this.context, binds: [variables.binds()], findings: Environment.noFindings() }
    return Statement.parse(() => {
      const bound = variables.bound(tokens)
      return Expression.write(bound, Query.scopeOf(Statement.environment(context))).sql
    })
  }

  private evaluate(tokens: ReadonlyArray<Token>, variables: Variables, type: SnowflakeType): Run<string | null> {
    return this.expression(tokens, variables).pipe(
      Effect.flatMap((sql) => this.values(this.context, `SELECT ${sql}`, [type])),
      Effect.map(([value]) => value ?? null)
    )
  }

  private holds(tokens: ReadonlyArray<Token>, variables: Variables, at: number): Running<boolean> {
    return Effect.map(
      thrown(this.evaluate(tokens, variables, { kind: "BOOLEAN" }), "EXPRESSION_ERROR", at),
      (value) => value === "true"
    )
  }

  private define({ name, type, value }: Declaration, variables: Variables): Run<void> {
    return Effect.gen({ self: this }, function*() {
      if (value === undefined) {
        if (type === undefined) return yield* SnowflakeError.syntax(`variable ${name} has neither a type nor a value.`)
        variables.add(name, type)
        return
      }
      let of = type
      if (of === undefined) {
        const [inferred] = yield* Statement.typesOf(
          this.context,
          `SELECT ${yield* this.expression(value, variables)}`
        )
        of = inferred === undefined ? Types.text : ResultRows.typeOf(inferred)
      }
      variables.add(name, of, yield* this.evaluate(value, variables, of))
    })
  }

  private select(step: Extract<Step, { kind: "Into" }>, variables: Variables): Run<Outcome> {
    return this.child(step.tokens, variables, (child) =>
      Effect.gen({ self: this }, function*() {
        const { sql, types } = yield* Statement.parse(() => ({
          types: step.targets.map((target) => variables.typeOf(target)),
          sql: Query.write(step.tokens, Statement.environment(child), new Set(), true)
        }))
        if (child.findings.readsRows) yield* Statement.requireWarehouse(child)
        const values = yield* this.values(child, sql, types)
        for (const [index, target] of step.targets.entries()) variables.set(target, values[index] ?? null)
        const outcome: Outcome = { kind: "SELECT", typeId: Statement.typeIds.select, result: ResultRows.status("") }
        return outcome
      }))
  }

  private step(step: Step, variables: Variables, caught: Thrown | undefined): Running<Flow> {
    const { at } = step
    switch (step.kind) {
      case "Sql":
        return thrown(this.child(step.tokens, variables, this.execute), "STATEMENT_ERROR", at).pipe(
          Effect.map(({ changed }): Flow => {
            if (changed !== undefined) {
              variables.set("SQLROWCOUNT", String(changed))
              variables.set("SQLFOUND", String(changed > 0))
              variables.set("SQLNOTFOUND", String(changed === 0))
            }
            return "next"
          })
        )
      case "Into":
        return Effect.as(thrown(this.select(step, variables), "STATEMENT_ERROR", at), "next")
      case "Let":
        return Effect.as(thrown(this.define(step.declaration, variables), "EXPRESSION_ERROR", at), "next")
      case "Assign":
        return thrown(
          Effect.gen({ self: this }, function*() {
            const type = yield* Statement.parse(() => variables.typeOf(step.name))
            variables.set(step.name, yield* this.evaluate(step.value, variables, type))
            return "next" as const
          }),
          "EXPRESSION_ERROR",
          at
        )
      case "If":
        return Effect.gen({ self: this }, function*() {
          for (const branch of step.branches) {
            if (yield* this.holds(branch.condition, variables, at)) {
              return yield* this.steps(branch.steps, variables, caught)
            }
          }
          return yield* this.steps(step.otherwise, variables, caught)
        })
      case "While":
        return Effect.gen({ self: this }, function*() {
          while (yield* this.holds(step.loop.condition, variables, at)) {
            const flow = yield* this.steps(step.loop.steps, variables, caught)
            if (flow !== "next") return flow
          }
          return "next" as const
        })
      case "Block":
        return this.block(step.block, variables)
      case "Return":
        return step.value === undefined ? Effect.succeed({ value: null }) : Effect.map(
          thrown(this.evaluate(step.value, variables, Types.text), "EXPRESSION_ERROR", at),
          (value) => ({ value })
        )
      case "Raise":
        return caught === undefined
          ? Effect.fail({
            error: SnowflakeError.syntax("RAISE outside of an exception handler."),
            kind: "STATEMENT_ERROR",
            at
          })
          : Effect.fail(caught)
      case "Null":
        return Effect.succeed("next")
    }
  }

  private steps(steps: ReadonlyArray<Step>, variables: Variables, caught: Thrown | undefined): Running<Flow> {
    return Effect.gen({ self: this }, function*() {
      for (const step of steps) {
        const flow = yield* this.step(step, variables, caught)
        if (flow !== "next") return flow
      }
      return "next" as const
    })
  }

  block(block: Block, outer: Variables): Running<Flow> {
    const variables = new Variables(outer)
    return Effect.gen({ self: this }, function*() {
      for (const declaration of block.declarations) {
        yield* thrown(this.define(declaration, variables), "EXPRESSION_ERROR", 0)
      }
      return yield* this.steps(block.steps, variables, undefined)
    }).pipe(
      Effect.catch((caught) => {
        const handler = block.handlers.find((handler: Handler) =>
          handler.exceptions.includes("OTHER") || handler.exceptions.includes(caught.kind)
        )
        if (handler === undefined) return Effect.fail(caught)
        const inHandler = new Variables(variables)
        inHandler.add("SQLCODE", Types.number38, String(Number(caught.error.code)))
        inHandler.add("SQLERRM", Types.text, caught.error.message)
        inHandler.add("SQLSTATE", Types.text, caught.error.sqlState)
        return this.steps(handler.steps, inHandler, caught)
      })
    )
  }
}

const thrown = <A>(run: Run<A>, kind: Thrown["kind"], at: number): Running<A> =>
  Effect.mapError(run, (error) => ({ error, kind, at }))

const textOf = (context: StatementContext, tokens: ReadonlyArray<Token>): string =>
  context.source.slice(tokens[0]?.at ?? 0, tokens[tokens.length - 1]?.end ?? 0)

/** The error of a block that didn't handle it: Snowflake's code, and where it happened. */
const uncaught = (source: string, { at, error, kind }: Thrown): SnowflakeError.SnowflakeError => {
  const lines = source.slice(0, at).split("\n")
  const position = lines[lines.length - 1]?.length ?? 0
  return new SnowflakeError.SnowflakeError({
    code: error.code,
    sqlState: error.sqlState,
    message: `Uncaught exception of type '${kind}' on line ${lines.length} at position ${position} : ${error.message}`
  })
}

/** The text of EXECUTE IMMEDIATE. */
const immediateText = (cursor: Cursor): string => {
  const token = cursor.next()
  if (!cursor.done) throw SnowflakeError.unsupported("EXECUTE IMMEDIATE … USING")
  if (token.kind === "string") return token.text
  throw SnowflakeError.unsupported("EXECUTE IMMEDIATE of anything but a string literal")
}

/** EXECUTE IMMEDIATE, whose words have been read. */
export const executeImmediate = (outer: StatementContext, cursor: Cursor, execute: Execute): Run<Outcome> =>
  Effect.gen(function*() {
    const parsed = yield* Statement.parse(() => {
      const source = immediateText(cursor)
      const tokens = tokenize(source)
      if (Blocks.isBlock(tokens)) return { source, block: Blocks.parse(new Cursor(source, tokens)) }
      const [single, second] = statements(tokens)
      if (single === undefined) throw SnowflakeError.syntax("Empty SQL statement.")
      if (second !== undefined) throw SnowflakeError.unsupported("several statements in EXECUTE IMMEDIATE")
      return { source, single }
    })
    const context: StatementContext = { ...outer, source: parsed.source }
    const interpreter = new Interpreter(context, execute)
    if (parsed.single !== undefined) return yield* interpreter.child(parsed.single, undefined, execute)
    const system = new Variables()
    system.add("SQLROWCOUNT", Types.number38)
    system.add("SQLFOUND", { kind: "BOOLEAN" })
    system.add("SQLNOTFOUND", { kind: "BOOLEAN" })
    const flow = yield* Effect.mapError(
      interpreter.block(parsed.block, system),
      (caught) => uncaught(parsed.source, caught)
    )
    return {
      kind: "EXECUTE_IMMEDIATE",
      typeId: Statement.typeIds.select,
      result: ResultRows.ofRows([ResultRows.column(name)], [[flow === "next" ? null : flow.value]])
    }
  })
