/**
 * Stands in for the official SDK: the interface that its documentation shows, over the REST API of the server that `properties.url` names.
 *
 * Rows are taken into memory and sent one request after the other; an append that fails makes the channel invalid, as the SDK never opens one again by itself.
 */
"use strict"

class StreamingIngestError extends Error {
  constructor(errorCode, message, httpStatusCode, httpStatusName) {
    super(message)
    this.errorCode = errorCode
    this.httpStatusCode = httpStatusCode
    this.httpStatusName = httpStatusName
  }
}

/** What tests set and look at. */
const control = { failures: [], appends: 0, clients: 0, closed: 0 }

const segment = (name) => encodeURIComponent(/^[A-Z_][A-Z0-9_$]*$/.test(name) ? name : `"${name}"`)

class Channel {
  constructor(client, name, continuationToken) {
    this.client = client
    this.channelName = name
    this.continuationToken = continuationToken
    this.invalid = false
    this.sending = Promise.resolve()
  }

  appendRows(rows, startOffsetToken, endOffsetToken) {
    const failure = control.failures.shift()
    if (failure !== undefined) throw new StreamingIngestError(failure[0], "row 'secret'", failure[1], "")
    if (this.invalid) throw new StreamingIngestError("InvalidChannelError", "invalid", 409, "Conflict")
    control.appends++
    const body = rows.map((row) =>
      `${JSON.stringify(row, (_key, value) => typeof value === "bigint" ? JSON.rawJSON(String(value)) : value)}\n`
    ).join("")
    this.sending = this.send(this.sending, body, startOffsetToken, endOffsetToken)
  }

  async send(before, body, startOffsetToken, endOffsetToken) {
    await before
    if (this.invalid) return
    const query = new URLSearchParams({ continuationToken: this.continuationToken, startOffsetToken, endOffsetToken })
    try {
      const response = await this.client.request(
        "POST",
        `/v2/streaming/data${this.client.path}/channels/${encodeURIComponent(this.channelName)}/rows?${query}`,
        body,
        "application/x-ndjson"
      )
      if (response.ok) this.continuationToken = (await response.json()).next_continuation_token
      else this.invalid = true
    } catch {
      this.invalid = true
    }
  }

  async getChannelStatus() {
    await this.sending
    if (this.invalid) throw new StreamingIngestError("InvalidChannelError", "invalid", 409, "Conflict")
    const response = await this.client.request(
      "POST",
      `/v2/streaming${this.client.path}:bulk-channel-status`,
      JSON.stringify({ channel_names: [this.channelName] })
    )
    return statusOf((await response.json()).channel_statuses[this.channelName])
  }

  async close() {
    this.invalid = true
    control.closed++
  }
}

const statusOf = (status) => ({
  statusCode: status.channel_status_code,
  latestCommittedOffsetToken: status.last_committed_offset_token,
  rowsInsertedCount: status.rows_inserted,
  rowsErrorCount: status.rows_error_count,
  lastErrorMessage: status.last_error_message
})

class Client {
  constructor({ dbName, schemaName, pipeName, properties }) {
    this.properties = properties
    this.path = `/databases/${segment(dbName)}/schemas/${segment(schemaName)}/pipes/${encodeURIComponent(pipeName)}`
  }

  async login() {
    const { personal_access_token: token, role, url } = this.properties
    const headers = { accept: "*/*", authorization: `Bearer ${token}` }
    const host = (await (await fetch(`${url}/v2/streaming/hostname`, { headers })).text()).trim()
    const exchange = await fetch(`${url}/oauth/token`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
        scope: role === undefined ? host : `${host} session:role:${role}`
      }).toString()
    })
    if (!exchange.ok) throw new StreamingIngestError("SfApiAuthError", "refused", 401, "Unauthorized")
    this.token = await exchange.text()
  }

  request(method, path, body, type = "application/json") {
    return fetch(`${this.properties.url}${path}`, {
      method,
      headers: { accept: "application/json", authorization: `Bearer ${this.token}`, "content-type": type },
      body
    })
  }

  async openChannel({ name }) {
    const response = await this.request(
      "PUT",
      `/v2/streaming${this.path}/channels/${encodeURIComponent(name)}`,
      "{}"
    )
    if (!response.ok) throw new StreamingIngestError("SfApiUserError", "refused", response.status, "")
    const { channel_status, next_continuation_token } = await response.json()
    return { channel: new Channel(this, name, next_continuation_token), status: statusOf(channel_status) }
  }

  async close() {
    control.closed++
  }
}

const createClient = async (options) => {
  control.clients++
  const client = new Client(options)
  await client.login()
  return client
}

module.exports = { StreamingIngestError, control, createClient }
