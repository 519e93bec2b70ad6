package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newToken() *cobra.Command {
	var name string
	var roles, hubs []string
	cmd := &cobra.Command{
		Use: "token", Short: "Make a bearer token, and the line for a server's token file", Args: noArgs,
		Long: `Make a random bearer token, for whoever is to have it, and the line that lets it in, for the file
that a server has with --token-file. The line has the token's hash only, so that the file gives
nobody's token away; it is read again when it changes. Roles: reader looks; operator looks
and changes instances; worker runs work items; admin does everything, and is the default.`,
		Example: "  perdure token --name ci --role worker,operator --for-hub default",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, r := range roles {
				if !slices.Contains([]string{"reader", "operator", "worker", "admin"}, r) {
					return usageError{fmt.Errorf("--role %q: want reader, operator, worker or admin", r)}
				}
			}
			if name == "" || strings.ContainsAny(name+strings.Join(hubs, ""), " \t\n") {
				return usageError{errors.New("--name: want a word; it stands in the audit log")}
			}
			token := rand.Text()
			h := sha256.Sum256([]byte(token))
			line := "sha256:" + hex.EncodeToString(h[:]) + " name=" + name
			if len(roles) > 0 {
				line += " role=" + strings.Join(roles, ",")
			}
			if len(hubs) > 0 {
				line += " hubs=" + strings.Join(hubs, ",")
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "token: %s\nline:  %s\n", token, line)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "who has it")
	cmd.Flags().StringSliceVar(&roles, "role", nil, "what it is for: reader, operator, worker or admin")
	cmd.Flags().StringSliceVar(&hubs, "for-hub", nil, "the task hubs that it is for (default all)")
	return cmd
}
