package fakellm_test

import (
	"context"
	"fmt"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/fakellm"
)

func Example() {
	provider, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = provider.Close() }()
	provider.Script("small", fakellm.Fault{Kind: fakellm.KindUnavailable})

	config := openai.DefaultConfig("any key")
	config.BaseURL = provider.URL()
	client := openai.NewClientWithConfig(config)
	for range 2 {
		answer, err := client.CreateChatCompletion(context.Background(), openai.ChatCompletionRequest{
			Model:    "small",
			Messages: []openai.ChatCompletionMessage{{Role: "user", Content: "My card is blocked!!"}},
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(answer.Choices[0].Message.Content)
	}
	counts := provider.Counts()
	fmt.Println(counts.Models["small"].Outcomes, counts.Nonces[fakellm.Nonce("My card is blocked!!")])
	// Output:
	// error, status code: 503, status: 503 Service Unavailable, message: The engine is currently overloaded, please try again later
	// This is a simulated answer: no model was asked, and nothing was understood. [nonce:ab1ff2c82fb428cf]
	// map[503:1 ok:1] 2
}
