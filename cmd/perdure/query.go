package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/search"
)

func newQuery() *cobra.Command {
	var t target
	var o output
	var limit int
	var payloads, oldest bool
	cmd := &cobra.Command{
		Use: "query SEARCH...", Short: "Search for instances, newest first", Args: args(1, true),
		Long: `Search for instances, newest first, by what they are and by what their payloads hold. The
language is that of docs/search.md; the arguments are the terms of one search, so quote what
your shell would read: * > < and spaces.`,
		Example: "  perdure query status:failed 'error:*timeout*' 'age<1d'\n" +
			"  perdure query tag.team:blue 'input.customer.id:42' -o jsonl --payloads",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := api.InstanceQuery{Search: strings.Join(args, " "), NewestFirst: !oldest, Payloads: payloads}
			if _, err := search.Parse(q.Search); err != nil {
				return usageError{err}
			}
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.read(cmd.Context(), func(r reader) error {
				return rows(o, instanceColumns, func(f func(*api.OrchestrationMetadata) error) error {
					return each(cmd.Context(), r, q, limit, f)
				})
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "show this many at most; 0 for all")
	cmd.Flags().BoolVar(&payloads, "payloads", false, "with input, output and custom status, in JSON")
	cmd.Flags().BoolVar(&oldest, "oldest", false, "oldest first")
	return cmd
}
