/**
 * Whether anything is traced, and in which span a fiber is.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Tracer from "effect/Tracer"

/** Whether spans go anywhere: false without a tracer, so that nothing is made for them. */
export const isTracing = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.cache.tracerEnabled && fiber.cache.tracer !== undefined

/** The span that a fiber is in, if it is sampled; undefined without a tracer. */
export const sampledSpan = (fiber: Fiber.Fiber<unknown, unknown>): Tracer.AnySpan | undefined =>
  isTracing(fiber) && fiber.cache.span?.sampled === true ? fiber.cache.span : undefined

/** Lets what goes on for days be no part of whatever started it: every batch begins a trace of its own, or nothing would be sampled or ever complete. */
export const detached = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(
    effect,
    (context: Context.Context<R>) => Context.omit(Tracer.ParentSpan)(context) as Context.Context<R> // R holds no span
  )
