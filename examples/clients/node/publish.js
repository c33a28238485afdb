// Publishes the mail for a password reset in postlane's high lane, by kafkajs:
//
//   KAFKA_BROKERS=localhost:9092 node publish.js user@example.com

import { randomBytes, randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'

const { Kafka, Partitioners, logLevel } = kafkajs

/** Made once for each mail: whatever is tried again later is this same event with this same id. */
function passwordReset(to, link, validMs) {
  const now = Date.now()
  return {
    type: 'password_reset',
    message: {
      id: `password-reset-${randomUUID()}`,
      from: 'Example Shop <shop@example.com>',
      to: [to],
      template: 'password-reset',
      data: { Link: link },
      priority: 'high',
      timestamp: new Date(now).toISOString(),
      expires_at: new Date(now + validMs).toISOString(), // a mail with a dead link helps nobody
    },
  }
}

/** One for the whole program, connected once. */
function newProducer(brokers) {
  const kafka = new Kafka({
    brokers,
    connectionTimeout: 3_000,
    requestTimeout: 5_000,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 4 },
    logLevel: logLevel.NOTHING, // what fails is thrown
  })
  return kafka.producer({
    idempotent: true, // what the client sends again is stored once
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner, // by the key, as the Java client does
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 4 }, // else an idempotent producer tries for ever
  })
}

/**
 * Resolves when all in-sync replicas have the event, to where it stands. After an error they may have it all the same. A
 * caller that tries again hands over the same event, so that both mails have one Message-ID.
 */
async function publish(producer, topic, event) {
  const [stored] = await producer.send({
    topic,
    acks: -1, // all of them
    timeout: 5_000,
    messages: [{ key: event.message.id, value: JSON.stringify(event) }],
  })
  return stored
}

async function main() {
  const [to] = process.argv.slice(2)
  if (!to) throw new Error('usage: node publish.js RECIPIENT')
  const topic = `${process.env.KAFKA_TOPIC || 'email-queue'}-high`
  const producer = newProducer((process.env.KAFKA_BROKERS || 'localhost:9092').split(','))
  const link = `https://example.com/reset?token=${randomBytes(32).toString('base64url')}`
  const event = passwordReset(to, link, 3_600_000)
  try {
    await producer.connect()
    const { partition, baseOffset } = await publish(producer, topic, event)
    console.log(`published ${event.message.id} to ${topic}, partition ${partition}, offset ${baseOffset}`)
  } catch (error) {
    throw new Error(`${event.message.id} is not published, as far as we know: ${error.message}`, { cause: error })
  } finally {
    await producer.disconnect()
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
