// Publishes the mail for a password reset in postlane's high lane, by segmentio/kafka-go:
//
//	KAFKA_BROKERS=localhost:9092 go run . user@example.com
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
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

// newWriter makes the writer that a program shares between all its goroutines and closes at its end.
func newWriter(brokers []string) *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(brokers...),
		RequiredAcks: kafka.RequireAll,        // a Writer's own default is to wait for nobody
		Balancer:     kafka.Murmur2Balancer{}, // by key, as the Java client does; the default ignores the key
		BatchTimeout: 5 * time.Millisecond,    // the default makes a lone message wait for a second
		MaxAttempts:  3,                       // each of them writes the same bytes
		ReadTimeout:  3 * time.Second,
		WriteTimeout: 3 * time.Second,
	}
}

// publish returns when all in-sync replicas have the event. After an error they may have it all the same: kafka-go has no
// idempotent producer. A caller that tries again hands over the same event, so that both mails have one Message-ID.
func publish(ctx context.Context, writer *kafka.Writer, topic string, event Event) error {
	value, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("cannot encode the event: %w", err)
	}
	message := kafka.Message{Topic: topic, Key: []byte(event.Message.ID), Value: value}
	for {
		err := writer.WriteMessages(ctx, message)
		if err == nil || !nothingWritten(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// nothingWritten tells whether the brokers could not even be asked for the topic's partitions, which a Writer does only
// once. A write that has failed MaxAttempts times comes as kafka.WriteErrors and is left to the caller.
func nothingWritten(err error) bool {
	var network net.Error
	var broker kafka.Error
	return errors.As(err, &network) || errors.As(err, &broker) && broker.Temporary()
}

func run(ctx context.Context) (err error) {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s RECIPIENT", os.Args[0])
	}
	topic := env("KAFKA_TOPIC", "email-queue") + "-high"
	writer := newWriter(strings.Split(env("KAFKA_BROKERS", "localhost:9092"), ","))
	defer func() {
		if closing := writer.Close(); err == nil {
			err = closing
		}
	}()

	event := passwordReset(os.Args[1], "https://example.com/reset?token="+rand.Text(), time.Hour)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := publish(ctx, writer, topic, event); err != nil {
		return fmt.Errorf("%s is not published, as far as we know: %w", event.Message.ID, err)
	}
	fmt.Printf("published %s to %s\n", event.Message.ID, topic)
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
