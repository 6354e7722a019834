import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as ConnectionParameters from "../src/ConnectionParameters.ts"
import * as ConnectionString from "../src/ConnectionString.ts"
import * as PasswordFile from "../src/PasswordFile.ts"
import * as ServiceFile from "../src/ServiceFile.ts"

const parse = (text: string) => ConnectionString.parse(Redacted.make(text))

const parameters = (text: string): Record<string, string> => Object.fromEntries(Result.getOrThrow(parse(text)))

const hosts = (text: string) =>
  ConnectionParameters.hostsOf(ConnectionParameters.merge([Result.getOrThrow(parse(text))]))

/** Anything that a name or password may hold: a zero byte ends texts in the protocol. */
const word = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }).filter((text) => !text.includes("\0"))

/** A password that nothing else contains, with whatever may upset a parser in it. */
const secret = fc.string({ unit: fc.constantFrom(..."@:/?#%&='\\ []{},;\n\té"), maxLength: 6 })
  .map((noise) => `s3cr${noise}3t`)

describe("ConnectionString", () => {
  it("takes apart what libpq's documentation shows", () => {
    assert.deepStrictEqual(parameters("postgresql://"), {})
    assert.deepStrictEqual(parameters("postgresql://localhost:5433"), { host: "localhost", port: "5433" })
    assert.deepStrictEqual(parameters("postgresql://user:secret@localhost"), {
      user: "user",
      password: "secret",
      host: "localhost"
    })
    assert.deepStrictEqual(
      parameters("postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp"),
      {
        user: "other",
        host: "localhost",
        dbname: "otherdb",
        connect_timeout: "10",
        application_name: "myapp"
      }
    )
    assert.deepStrictEqual(parameters("postgresql://host1:123,host2:456/somedb?target_session_attrs=any"), {
      host: "host1,host2",
      port: "123,456",
      dbname: "somedb",
      target_session_attrs: "any"
    })
    assert.deepStrictEqual(parameters("postgresql:///mydb?host=localhost&port=5433"), {
      dbname: "mydb",
      host: "localhost",
      port: "5433"
    })
    assert.deepStrictEqual(parameters("postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff"), {
      user: "user",
      host: "localhost",
      port: "5433",
      dbname: "mydb",
      options: "-c synchronous_commit=off"
    })
    assert.deepStrictEqual(parameters("postgresql://[2001:db8::1234]/database"), {
      host: "2001:db8::1234",
      dbname: "database"
    })
    assert.deepStrictEqual(parameters("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname"), {
      host: "/var/lib/postgresql",
      dbname: "dbname"
    })
    assert.deepStrictEqual(parameters("postgres://h/d?ssl=true"), { host: "h", dbname: "d", sslmode: "require" })
    assert.deepStrictEqual(parameters("host=localhost port = 5432  dbname=mydb"), {
      host: "localhost",
      port: "5432",
      dbname: "mydb"
    })
    assert.deepStrictEqual(parameters(String.raw`user='it\'s me' password=a\ b\\c options=''`), {
      user: "it's me",
      password: "a b\\c",
      options: ""
    })
  })

  it("hosts and ports go together", () => {
    const of = (name: string, port = 5432, address: string | undefined = undefined) => ({ name, address, port })
    assert.deepStrictEqual(hosts("postgres://a,b:1,[::1]:2/d"), [of("a"), of("b", 1), of("::1", 2)])
    assert.deepStrictEqual(hosts("host=a,b port=7"), [of("a", 7), of("b", 7)])
    assert.deepStrictEqual(hosts("host=a hostaddr=10.0.0.1"), [of("a", 5432, "10.0.0.1")])
    assert.deepStrictEqual(hosts("hostaddr=10.0.0.1,10.0.0.2"), [
      of("10.0.0.1", 5432, "10.0.0.1"),
      of("10.0.0.2", 5432, "10.0.0.2")
    ])
    assert.deepStrictEqual(hosts("postgres://"), [of("localhost")])
    assert.strictEqual(hosts("host=a,b port=1,2,3"), "there are neither one port nor as many as hosts")
    assert.strictEqual(hosts("host=a,b hostaddr=10.0.0.1"), "host and hostaddr don't name equally many servers")
  })

  it("whatever is percent-encoded comes back from a URL", () => {
    fc.assert(fc.property(word, word, word, word, (user, password, database, application) => {
      const e = encodeURIComponent
      const text = `postgresql://${e(user)}:${e(password)}@h:1/${e(database)}?application_name=${e(application)}`
      assert.deepStrictEqual(parameters(text), {
        user,
        password,
        host: "h",
        port: "1",
        dbname: database,
        application_name: application
      })
    }))
  })

  it("whatever is quoted comes back from keywords and values", () => {
    const quoted = (text: string): string => `'${text.replace(/[\\']/g, "\\$&")}'`
    const escaped = (text: string): string => text.replace(/[\\'\s]/g, "\\$&")
    fc.assert(fc.property(word, word, (user, password) => {
      assert.deepStrictEqual(parameters(`user=${quoted(user)} password = ${escaped(password)}`), { user, password })
    }))
  })

  it("a problem never holds a piece of the password", () => {
    const around = fc.constantFrom<(password: string) => string>(
      (password) => `postgresql://u:${password}@h:5432/d?sslmode=require`,
      (password) => `postgresql://${password}`,
      (password) => `postgresql://u@h/${password}`,
      (password) => `postgresql://u@h/d?password=${password}&sslmode=x`,
      (password) => `postgresql://u@h/d?${password}=1`,
      (password) => `postgresql://h:${password}/d`,
      (password) => `host=h password=${password} sslmode=x`,
      (password) => `host=h password='${password}`,
      (password) => `host=h ${password}=x`,
      (password) => `mysql://u:${password}@h`,
      (password) => password
    )
    fc.assert(
      fc.property(around, secret, (make, password) => {
        const parsed = parse(make(password))
        const problem = Result.isFailure(parsed)
          ? parsed.failure
          : ConnectionParameters.problem(parsed.success) ?? ConnectionParameters.hostsOf(parsed.success)
        if (typeof problem !== "string") return
        assert.notMatch(problem, /s3cr|3t\b/)
      }),
      { numRuns: 1000 }
    )
  })

  it("nothing makes it fail in another way, or take long", () => {
    const noise = fc.string({ unit: fc.constantFrom(..."postgresql://@:[]?&=%20'\\, \n-cé\0"), maxLength: 60 })
    fc.assert(
      fc.property(noise, fc.constantFrom("", "postgres://", "postgresql://u@", "host="), (text, start) => {
        parse(start + text)
        const found = ServiceFile.find(`[a]\n${text}`, "a")
        if (Result.isFailure(found)) assert.match(found.failure, /^line \d+/)
        PasswordFile.find(text, { host: "h", port: 1, database: "d", user: "u" })
      }),
      { numRuns: 1000 }
    )
    const started = performance.now()
    for (const text of ["host= ", "=", "'", "\\", "a ", "postgres://,", "host='\\"]) parse(text.repeat(20_000))
    assert.isBelow(performance.now() - started, 5000)
  })

  it("says what is refused and why", () => {
    for (
      const [text, problem] of [
        ["sslmode=prefer", /sslmode can't be prefer or allow/],
        ["sslmode=on", /sslmode is none of disable, require, verify-ca, verify-full/],
        ["target_session_attrs=leader", /target_session_attrs is none of any, read-write/],
        ["port=x", /port is not a number/],
        ["port=0", /port is not a number/],
        ["gssencmode=require", /gssencmode can only be disable or prefer: there is no GSSAPI/],
        ["connect_timeout=soon", /connect_timeout is not a whole number/],
        ["require_auth=scram-sha-256,!md5", /require_auth is not a list/],
        ["require_auth=gss", /require_auth leaves no method/],
        ["channel_binding=yes", /channel_binding is none of/],
        ["sslkeylogfile=/tmp/keys", /sslkeylogfile is not supported/],
        ["replication=database", /replication is not supported/],
        ["__proto__=x", /a parameter is not one of libpq's/],
        ["constructor=x", /a parameter is not one of libpq's/]
      ] as const
    ) {
      assert.match(ConnectionParameters.problem(Result.getOrThrow(parse(text))) ?? "", problem)
    }
    assert.isUndefined(
      ConnectionParameters.problem(Result.getOrThrow(parse(
        "host=h gssencmode=disable keepalives_idle=30 fallback_application_name=x client_encoding=UTF8 load_balance_hosts=random"
      )))
    )
  })
})

describe("ServiceFile", () => {
  it("has the first section of a name, as libpq reads it", () => {
    const text =
      "# comment\n[other]\nhost=no\n\n[shop]\n host=a\n# user=no\nuser= b \nuser=no\npassword=x#y=z\n\n[shop]\nport=1\n"
    assert.deepStrictEqual(
      Object.fromEntries(Result.getOrThrow(ServiceFile.find(text, "shop")) ?? []),
      { host: "a", user: " b", password: "x#y=z" }
    )
    assert.isUndefined(Result.getOrThrow(ServiceFile.find(text, "sho")))
    assert.isUndefined(Result.getOrThrow(ServiceFile.find("", "shop")))
  })

  it("whatever stands after the first = comes back", () => {
    const line = fc.string({ unit: "grapheme", maxLength: 20 }).filter((value) =>
      !/[\n\r\0]/.test(value) && value.trim() === value
    )
    fc.assert(fc.property(line, line, (password, options) => {
      const found = ServiceFile.find(`[s]\r\npassword=${password}\r\noptions=${options}\r\n[t]\n`, "s")
      assert.deepStrictEqual(Object.fromEntries(Result.getOrThrow(found) ?? []), { password, options })
    }))
  })
})

describe("PasswordFile", () => {
  const target = { host: "h", port: 5432, database: "d", user: "u" }
  const find = (text: string): string | undefined => {
    const found = PasswordFile.find(text, target)
    return found === undefined ? undefined : Redacted.value(found)
  }

  it("takes the first line that fits", () => {
    assert.strictEqual(find("# h:5432:d:u:no\nx:*:*:*:no\nh:5433:*:*:no\n*:*:*:u:yes\n*:*:*:*:late"), "yes")
    assert.strictEqual(find("*:*:*:*:a\\:b\\\\c:rest"), "a:b\\c")
    assert.strictEqual(find("h:5432:d:u:pass word \r\n"), "pass word ")
    for (const text of ["", "h:5432:d:u", "\\*:*:*:*:literal star", "h*:*:*:*:no", "h:5432:D:u:no", "::::x"]) {
      assert.isUndefined(find(text), text)
    }
  })

  it("whatever is escaped comes back, in every field", () => {
    const line = word.filter((text) => !/[\n\r]/.test(text) && text !== "*" && !text.startsWith("#"))
    const escaped = (text: string): string => text.replace(/[\\:]/g, "\\$&")
    fc.assert(fc.property(line, line, line, line, (host, database, user, password) => {
      const text = `*:1:*:*:no\n${[host, "5432", database, user, password].map(escaped).join(":")}\n`
      const found = PasswordFile.find(text, { host, port: 5432, database, user })
      assert.strictEqual(found === undefined ? undefined : Redacted.value(found), password)
    }))
  })
})
