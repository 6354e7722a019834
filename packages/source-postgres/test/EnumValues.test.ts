/**
 * Enums that change while the pipeline runs, or while it doesn't: rows hold a value's number, so a rename changes rows silently.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Mirror } from "./Mirror.ts"
import { copiesOf } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** The enum alone, and in everything that it can be in. */
const definitions = `
  CREATE TYPE mood AS ENUM ('calm', 'wild');
  CREATE DOMAIN temper AS mood;
  CREATE TYPE person AS (name text, moods mood[]);
  CREATE TYPE moods AS RANGE (SUBTYPE = mood);
  CREATE TABLE alone (v mood PRIMARY KEY, id int);
  CREATE TABLE within (id int PRIMARY KEY, d temper, a mood[], p person, r moods, m person[]);
  CREATE TABLE without (id int PRIMARY KEY, v text);
  INSERT INTO alone VALUES ('calm', 1), ('wild', 2);
  INSERT INTO within VALUES (1, 'calm', '{wild,calm}', '(x,"{calm}")', '[calm,wild]', '{"(y,{wild})"}');
  INSERT INTO without VALUES (1, 'calm')`

layer(Server.layer, { excludeTestServices: true })("enums", (it) => {
  it.effect("values that are added while the pipeline runs arrive, and nothing is copied again for them", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("added", definitions)
      const mirror = new Mirror()
      const copied = copiesOf()
      const options = { each: copied.each, publication: { check: "200 millis" } }
      const run = yield* SourceRun.start("added", mirror, options)
      yield* run.until(() => mirror.watermarks.length > 0)
      assert.lengthOf(copied.take(), 3)
      // A new value may be used by later transactions only.
      yield* write("ALTER TYPE mood ADD VALUE 'very, \"odd\"'")
      yield* write("ALTER TYPE mood ADD VALUE 'first' BEFORE 'calm'")
      yield* write(
        `INSERT INTO alone VALUES ('first', 3), ('very, "odd"', 4);
         INSERT INTO within VALUES (2, 'first', ARRAY['very, "odd"', 'first']::mood[], ROW('z', ARRAY['very, "odd"']::mood[]), '[first,)', '{}');
         UPDATE within SET d = 'very, "odd"' WHERE id = 1; UPDATE alone SET id = 5 WHERE v = 'calm'`
      )
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
      yield* SourceRun.catchUp("added", mirror, options)
      assert.deepStrictEqual(copied.take(), [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a value that is renamed while the pipeline runs ends the run, and the next one copies what holds it again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("renamed", definitions)
      const mirror = new Mirror()
      const copied = copiesOf()
      const options = { each: copied.each, publication: { check: "200 millis" } }
      const run = yield* SourceRun.start("renamed", mirror, options)
      yield* run.until(() => mirror.watermarks.length > 0)
      copied.take()
      yield* write("ALTER TYPE mood RENAME VALUE 'calm' TO 'serene'")
      // By its key the row is another now, and no change says so.
      yield* write("UPDATE alone SET id = 10 WHERE v = 'serene'; INSERT INTO within (id, d) VALUES (2, 'serene')")
      const error = yield* run.failure
      assert.strictEqual(error.reason, "Fenced")
      assert.match(error.message, /a value of the enum of column \w+ was renamed/)
      assert.notInclude(error.message, "serene")
      yield* run.stop
      // Until then it had no row of the new key.
      mirror.problems.length = 0
      yield* SourceRun.catchUp("renamed", mirror, options)
      assert.deepStrictEqual(copied.take(), ["alone", "within"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a value that is renamed while the pipeline is stopped is noticed at the start", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("stopped", definitions)
      const mirror = new Mirror()
      const copied = copiesOf()
      yield* SourceRun.catchUp("stopped", mirror, { each: copied.each })
      copied.take()
      yield* write("ALTER TYPE mood RENAME VALUE 'wild' TO 'tame'; ALTER TYPE mood RENAME VALUE 'calm' TO 'wild'")
      yield* SourceRun.catchUp("stopped", mirror, { each: copied.each })
      assert.deepStrictEqual(copied.take(), ["alone", "within"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))
})
