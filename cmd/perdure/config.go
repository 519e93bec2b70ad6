package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "PERDURE_"

// configurable lets each flag of the command be given in the environment or in a
// file as well. What is given on the command line counts most, then the environment.
func configurable(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "YAML file with values for these flags, each under its name")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage += " [" + envName(f.Name) + "]" })
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := configure(cmd.Flags()); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configure sets the flags that the command line leaves out.
func configure(flags *pflag.FlagSet) error {
	names := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) { names[envName(f.Name)] = f.Name })
	environment := koanf.New("\n") // no delimiter that a name could have
	if err := environment.Load(env.Provider("\n", env.Opt{
		Prefix:        envPrefix,
		TransformFunc: func(k, v string) (string, any) { return names[k], v }, // "" drops it
	}), nil); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	config := flags.Lookup("config")
	if !config.Changed && environment.Exists("config") {
		if err := config.Value.Set(environment.String("config")); err != nil {
			return err
		}
	}
	given := koanf.New("\n")
	if path := config.Value.String(); path != "" {
		data, err := os.ReadFile(path)
		if err == nil {
			err = given.Load(rawbytes.Provider(data), yaml.Parser())
		}
		if err != nil {
			return fmt.Errorf("--config: %w", err)
		}
		for _, key := range given.Keys() {
			if f := flags.Lookup(key); f == nil || key == "config" || key == "help" {
				return fmt.Errorf("--config: %s: there is no setting %q", path, key)
			}
		}
	}
	if err := given.Merge(environment); err != nil {
		return err
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || f == config || !given.Exists(f.Name) {
			return
		}
		if err := f.Value.Set(text(given.Get(f.Name))); err != nil {
			failed = fmt.Errorf("setting %s: %w", f.Name, err)
		}
	})
	return failed
}

// text is a value of a file as it would stand on the command line.
func text(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	var words []string
	for _, item := range list {
		words = append(words, fmt.Sprint(item))
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), ",")
}
