// Publishes the mail for a password reset in postlane's high lane, by franz-go:
//
//	KAFKA_BROKERS=localhost:9092 go run . user@example.com
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Event is the value of a record. docs/wire-format.md has all fields; what is not set here has a default there.
type Event struct {
	Type    string  `json:"type"`
	Message Message `json:"message"`
}

type Message struct {
	ID        string         `json:"id"`
	From      string         `json:"from"`
	To        []string       `json:"to"`
	Template  string         `json:"template"`
	Data      map[string]any `json:"data"`
	Priority  string         `json:"priority"`
	Timestamp time.Time      `json:"timestamp"`
	ExpiresAt time.Time      `json:"expires_at"`
}

// passwordReset is made once for each mail. Whatever is tried again later is this same event with this same id.
func passwordReset(to, link string, valid time.Duration) Event {
	now := time.Now().UTC()
	return Event{
		Type: "password_reset",
		Message: Message{
			ID:        "password-reset-" + rand.Text(),
			From:      "Example Shop <shop@example.com>",
			To:        []string{to},
			Template:  "password-reset",
			Data:      map[string]any{"Link": link},
			Priority:  "high",
			Timestamp: now,
			ExpiresAt: now.Add(valid), // a mail with a dead link helps nobody
		},
	}
}

// newClient makes the client that a program shares between all its goroutines and closes at its end. All in-sync replicas,
// an idempotent producer, the partition by the key as the Java client has it, and snappy are what it does by itself.
func newClient(brokers []string) (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.RecordDeliveryTimeout(10*time.Second), // the default is to try for ever
		kgo.ProduceRequestTimeout(5*time.Second),
		kgo.DialTimeout(5*time.Second),
	)
}

// publish returns when all in-sync replicas have the event, and where it stands. After an error they may have it all the
// same. A caller that tries again hands over the same event, so that both mails have one Message-ID.
func publish(ctx context.Context, client *kgo.Client, topic string, event Event) (*kgo.Record, error) {
	value, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the event: %w", err)
	}
	record := &kgo.Record{Topic: topic, Key: []byte(event.Message.ID), Value: value}
	published := make(chan error, 1)
	client.Produce(ctx, record, func(_ *kgo.Record, err error) { published <- err })
	select {
	case err := <-published:
		return record, err
	case <-ctx.Done(): // an idempotent client does not give up a record that is on its way, so we stop waiting
		return nil, ctx.Err()
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s RECIPIENT", os.Args[0])
	}
	topic := env("KAFKA_TOPIC", "email-queue") + "-high"
	client, err := newClient(strings.Split(env("KAFKA_BROKERS", "localhost:9092"), ","))
	if err != nil {
		return err
	}
	defer client.Close()

	event := passwordReset(os.Args[1], "https://example.com/reset?token="+rand.Text(), time.Hour)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	record, err := publish(ctx, client, topic, event)
	if err != nil {
		return fmt.Errorf("%s is not published, as far as we know: %w", event.Message.ID, err)
	}
	fmt.Printf("published %s to %s, partition %d, offset %d\n", event.Message.ID, topic, record.Partition, record.Offset)
	return nil
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
