/**
 * Notifiers of etl-stream: the plugins `@etl-stream/notifiers:webhook`, `:slack`, `:teams`, `:pagerduty` and `:email`.
 */
import { email } from "./Email.ts"
import { pagerduty } from "./PagerDuty.ts"
import { slack } from "./Slack.ts"
import { teams } from "./Teams.ts"
import { webhook } from "./Webhook.ts"

export * as DeliveryOptions from "./DeliveryOptions.ts"
export * as Email from "./Email.ts"
export * as HttpDelivery from "./HttpDelivery.ts"
export * as PagerDuty from "./PagerDuty.ts"
export * as Rate from "./Rate.ts"
export * as RateLimit from "./RateLimit.ts"
export * as Signature from "./Signature.ts"
export * as Slack from "./Slack.ts"
export * as Teams from "./Teams.ts"
export * as Webhook from "./Webhook.ts"
export * as Wording from "./Wording.ts"

export const plugins = { webhook, slack, teams, pagerduty, email }
